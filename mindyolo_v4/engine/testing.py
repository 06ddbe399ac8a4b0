"""Scoring a checkpoint of any task on a split: from a checkpoint to a folder of results."""

import logging

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.settings import config_for_checkpoint, require_same_classes
from mindyolo_v4.config.recipe import Tree
from mindyolo_v4.engine.task import Task, log_warnings
from mindyolo_v4.runtime.device import Runtime, to_mixed_precision
from mindyolo_v4.runtime.files import write_json
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.run_folder import make_run_folder

logger = logging.getLogger(__name__)


def test(
    task: Task,
    checkpoint: Checkpoint,
    recipe: Tree,
    overrides: Tree,
    runtime: Runtime,
    exist_ok: bool = False,
) -> int:
    """Score a checkpoint and write metrics.json and the task's files. Return the exit status."""
    config = config_for_checkpoint(checkpoint, recipe, overrides)
    dataset = task.read(config.data, config.evaluate.split)
    require_same_classes(checkpoint.card, dataset.class_names)
    network = to_mixed_precision(load_network(checkpoint, task.name), runtime.amp_level)

    folder = make_run_folder(config.save_dir, "test", runtime, "--exist_ok", exist_ok)
    setup_logger(folder, "test.log", runtime.ranks)
    logger.info("%s: %d images of %s", checkpoint.path, len(dataset), dataset.source)
    log_warnings(dataset)

    score = task.scorer(config, network, dataset, runtime)
    scores = score(check=lambda: None, for_test=True)
    if runtime.ranks.rank == 0:
        for name, content in {"metrics.json": scores.metrics, **scores.files}.items():
            write_json(folder / name, content)
    logger.info("%s\nwritten to %s", scores.table, folder)
    runtime.ranks.wait()  # one that left early would fail the others
    return 0

"""Scoring a checkpoint of any task on a split: from a checkpoint to a folder of results."""

import logging
import time
from functools import partial

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.settings import require_same_classes
from mindyolo_v4.config.recipe import dump_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.scoring import Scorer
from mindyolo_v4.engine.task import Task, log_warnings
from mindyolo_v4.errors import StoppedError, UserError
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.files import remove_unfinished
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.precision import to_mixed_precision
from mindyolo_v4.runtime.run_folder import make_run_folder
from mindyolo_v4.runtime.run_record import begin_record, command_line, end_of_test, end_record
from mindyolo_v4.runtime.scores import log_scores, write_scores
from mindyolo_v4.runtime.signals import StopSignals

logger = logging.getLogger(__name__)


def test(
    task: Task,
    checkpoint: Checkpoint,
    config: Config,
    runtime: Runtime,
    signals: StopSignals | None = None,
    exist_ok: bool = False,
    allow_unreadable: bool = False,
) -> int:
    """Score a checkpoint and write metrics.json and the task's files. Return the exit status.

    Raises:
        UserError: images could not be read, which `allow_unreadable` allows; all is written.
    """
    dataset = task.read(config.data, config.evaluate.split)
    require_same_classes(checkpoint, dataset.class_names, dataset.source)
    network = load_network(checkpoint, task.name)
    network = to_mixed_precision(network, runtime.amp_level, runtime.amp_dtype)

    folder = make_run_folder(config.save_dir, "test", runtime, "--exist_ok", exist_ok)
    setup_logger(folder, "test.log", runtime.ranks)
    logger.info("%s: %d images of %s", checkpoint.path, len(dataset), dataset.source)
    log_warnings(dataset)
    if runtime.ranks.rank == 0:
        begin_record(folder, config.seed, runtime.facts(), exist_ok)

    started_s = time.monotonic()
    stop = signals or StopSignals()
    score = Scorer(task, config, network, dataset, runtime)
    try:
        with stop.deferred(runtime.ranks, partial(remove_unfinished, folder)):
            scores = score(stop.check, for_test=True)
    except StoppedError as error:
        logger.warning("stopped by %s before all images were scored: no results", error)
        raise
    if runtime.ranks.rank == 0:
        write_scores(folder, scores)
        end_record(folder, end_of_test(len(dataset), started_s))
        title = f"Test of {checkpoint.path}"
        task.write_report(folder, title, command_line(), dump_config(config))
    wrong = log_scores(folder, scores, len(dataset))
    runtime.ranks.wait()  # one that left early would fail the others
    if wrong and not allow_unreadable:
        runtime.heartbeat.done()
        raise UserError(dataset.source, wrong, expected="--allow_unreadable if that is wanted")
    return 0

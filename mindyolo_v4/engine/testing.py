"""Scoring a checkpoint of any task on a split: from a checkpoint to a folder of results."""

from functools import partial

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.settings import require_same_classes
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.scoring import Scorer
from mindyolo_v4.engine.task import Task
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.precision import to_mixed_precision
from mindyolo_v4.runtime.scoring_run import ScoringRun
from mindyolo_v4.runtime.signals import StopSignals


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
    split = task.read(config.data, config.evaluate.split)
    require_same_classes(checkpoint, split.class_names, split.source)
    network = load_network(checkpoint, task.name)
    network = to_mixed_precision(network, runtime.amp_level, runtime.amp_dtype)
    switches = signals, exist_ok, allow_unreadable
    path = checkpoint.path
    title = f"Test of {path}"
    run = ScoringRun(path, title, split, config, runtime, runtime.facts(), *switches)
    return run(partial(Scorer(task, config, network, split, runtime), for_test=True))

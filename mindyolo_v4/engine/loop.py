"""The training loop, task-blind: a compiled loss to minimise, batches by number, a score."""

import itertools
from pathlib import Path

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.session import Session, TrainingParts
from mindyolo_v4.engine.state import FitResult
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.signals import StopSignals


def fit(
    parts: TrainingParts,
    config: Config,
    runtime: Runtime,
    folder: Path,
    resumed: Checkpoint | None = None,
    signals: StopSignals | None = None,
) -> FitResult:
    """Train until the epochs, `max_steps` or `max_minutes` are over; rank 0 writes the run folder.

    Args:
        resumed: the checkpoint to continue from.
        signals: where SIGTERM and SIGINT arrive; None: they do what they always do.

    Raises:
        StoppedError: a signal told one of the devices to stop; last.ckpt holds all that was done.
        TrainingDivergedError: too many steps in a row were not finite.
        UserError: `resumed` belongs to another training; the accumulation is longer than an epoch.
    """
    session = Session(parts, config, runtime, folder, resumed)
    stop = signals or StopSignals()
    parts.forward.set_train(True)
    with session.recording(), stop.deferred(runtime.ranks), session.saved_when_stopped():
        session.complete(stop.check)

        batches = session.micro_batches()
        first = list(itertools.islice(batches, 1))
        if first:
            session.compile(first[0])

        for micro_batches in itertools.chain(first, batches):
            session.step(micro_batches)
            if session.state.ends_epoch or session.is_over:
                session.end_epoch(stop.check)
            else:
                session.save_inside_epoch()
            if session.is_over:
                break
            stop.check()
    return session.result()

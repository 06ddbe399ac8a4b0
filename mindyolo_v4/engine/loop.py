"""The training loop, task-blind: a compiled loss to minimise, batches by number, a score."""

import itertools
from functools import partial
from pathlib import Path

from mindyolo_v4.engine.session import Session
from mindyolo_v4.runtime.run_folder import leave
from mindyolo_v4.runtime.signals import StopSignals


def fit(session: Session, folder: Path, signals: StopSignals | None = None) -> None:
    """Train until the epochs, `max_steps` or `max_minutes` are over; rank 0 writes the run folder.

    Args:
        signals: where SIGTERM and SIGINT arrive; None: they do what they always do.

    Raises:
        StoppedError: a signal told one of the devices to stop; last.ckpt holds all that was done.
        TrainingDivergedError: too many steps in a row were not finite.
    """
    stop = signals or StopSignals()
    clean_up = partial(leave, folder) if session.writes else None
    deferred = stop.deferred(session.runtime.ranks, clean_up)
    session.parts.forward.set_train(True)
    with session.recording(folder), deferred, session.saved_when_stopped():
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

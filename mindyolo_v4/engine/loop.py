"""The training loop, task-blind: a compiled loss to minimise, batches by number, a callable that scores."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindyolo_v4.config.root import Config
from mindyolo_v4.distributed.heartbeat import WATCH
from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.recorder import Recorder, TrainingDivergedError
from mindyolo_v4.engine.records import RunFiles
from mindyolo_v4.engine.session import Run, TrainingParts
from mindyolo_v4.errors import StoppedError
from mindyolo_v4.runtime.device import Runtime, any_rank
from mindyolo_v4.runtime.signals import StopSignals

logger = logging.getLogger(__name__)

__all__ = ["FitResult", "TrainingDivergedError", "TrainingParts", "fit"]


@dataclass(frozen=True)
class FitResult:
    """How a training ended."""

    step: int
    epoch: int
    train_seconds: float
    best: dict[str, Any] | None
    nonfinite_steps: int
    stopped_by: str  # epochs, max_steps or max_minutes


def fit(
    parts: TrainingParts, config: Config, runtime: Runtime, folder: Path, resume: Path | None = None
) -> FitResult:
    """Train until the epochs, `max_steps` or `max_minutes` are over; write the run folder's files on rank 0.

    Raises:
        StoppedError: a signal told one of the devices to stop; the last checkpoint holds all that was done.
        TrainingDivergedError: too many steps in a row were not finite.
        UserError: `resume` is damaged or belongs to another training; the accumulation is longer than an epoch.
    """
    run = Run(parts, config, runtime, folder)
    if resume is not None:
        run.load(resume)
    run.share_start()
    settings, state, per_epoch = config.train, run.state, run.steps_per_epoch
    last_step = min(len(run.rates), settings.max_steps or len(run.rates))
    stopped_by = "epochs" if last_step == len(run.rates) else "max_steps"
    part_names = parts.forward.part_names
    files = RunFiles(folder, part_names, run.resumed_step, writes=runtime.rank == 0)
    progress = Progress(part_names, state.step, last_step, settings.epochs)
    with files, progress, StopSignals(runtime.world_size) as stop:
        recorder = Recorder(state, settings, files, progress)
        parts.forward.set_train(True)
        with checkpoint_when_stopped(run, recorder):
            run.complete(files, resume, last_step)
            for micro_batches in run.micro_batches(state.step, last_step):
                step = state.step  # from 0; files count from 1
                result = run.call(step, micro_batches, progress)
                recorder.flush()  # the step before, whose values are ready while this one runs
                state.step = step + 1
                images = runtime.world_size * sum(len(batch[0]) for batch in micro_batches)
                recorder.put(run.epoch, result, run.rates[step], images)
                WATCH.beat()
                if state.step % per_epoch and state.step != last_step:
                    if run.due_inside_epoch():
                        recorder.flush()
                        with recorder.paused():
                            run.save()
                    stop.check()
                    continue
                recorder.flush()
                recorder.end_epoch(run.epoch)
                run.tick()
                out_of_time = (
                    settings.max_minutes is not None
                    and state.train_seconds > 60.0 * settings.max_minutes
                )
                if any_rank(out_of_time, runtime.world_size):
                    last_step, stopped_by = state.step, "max_minutes"
                run.end_epoch(files, last=state.step == last_step)
                if state.step == last_step:
                    break
                recorder.start_epoch()
                stop.check()
    return FitResult(
        state.step, run.epoch, state.train_seconds, state.best, state.nonfinite_steps, stopped_by
    )


@contextmanager
def checkpoint_when_stopped(run: Run, recorder: Recorder) -> Iterator[None]:
    """Where a signal ends what happens inside the `with`, write last.ckpt before any device leaves."""
    try:
        yield
    except StoppedError as stop:
        recorder.flush()
        run.save_last()
        any_rank(
            True, run.state.world_size
        )  # nobody passes before all are here: rank 0 has written
        where = f"step {run.state.step} of {len(run.rates)}, epoch {run.epoch}"
        logger.warning("stopped by %s at %s; go on with the same command and --resume", stop, where)
        raise

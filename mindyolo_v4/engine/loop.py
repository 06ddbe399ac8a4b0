"""The training loop, task-blind: a compiled loss to minimise, batches by number, a callable that scores."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.recorder import Recorder, TrainingDivergedError
from mindyolo_v4.engine.run import Run, TrainingParts
from mindyolo_v4.engine.run_files import RunFiles
from mindyolo_v4.runtime import Runtime, any_rank
from mindyolo_v4.schema.root import Config
from mindyolo_v4.watch import WATCH

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


def fit(parts: TrainingParts, config: Config, runtime: Runtime, folder: Path, resume: Path | None = None) -> FitResult:
    """Train until the epochs, `max_steps` or `max_minutes` are over; write the run folder's files on rank 0.

    Raises:
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
    files = RunFiles(folder, part_names, state.step, writes=runtime.rank == 0)
    progress = Progress(part_names, state.step, last_step, settings.epochs)
    with files, progress:
        recorder = Recorder(state, settings, files, progress)
        parts.forward.set_train(True)
        for micro_batches in run.micro_batches(state.step, last_step):
            step = state.step  # from 0; files count from 1
            result = run.call(step, micro_batches, progress)
            recorder.flush()  # the step before, whose values are ready while this one runs
            state.step = step + 1
            epoch = step // per_epoch + 1
            images = runtime.world_size * sum(len(batch[0]) for batch in micro_batches)
            recorder.put(epoch, result, run.rates[step], images)
            WATCH.beat()
            ended = state.step % per_epoch == 0
            if not ended and state.step != last_step:
                if run.due_inside_epoch():
                    recorder.flush()
                    with recorder.paused():
                        run.save(epoch)
                continue
            recorder.flush()
            recorder.end_epoch(epoch)
            run.tick()
            out_of_time = settings.max_minutes is not None and state.train_seconds > 60.0 * settings.max_minutes
            if any_rank(out_of_time, runtime.world_size):
                last_step, stopped_by = state.step, "max_minutes"
            last = state.step == last_step
            if parts.evaluate is not None and (last or (ended and epoch % settings.val_interval == 0)):
                run.validate(epoch, files)
            run.save(epoch)
            recorder.start_epoch()
            if last:
                break
    epoch = math.ceil(state.step / per_epoch)
    return FitResult(state.step, epoch, state.train_seconds, state.best, state.nonfinite_steps, stopped_by)

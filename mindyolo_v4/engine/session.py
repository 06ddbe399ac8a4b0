"""One training put together: schedule, optimizer, averages, train step, records, checkpoints."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from mindspore import Parameter

from mindyolo_v4.checkpoint import run_folder as checkpoints
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.settings import changed_settings, require_same_classes
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.compilation import compile_steps
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.micro_batches import MicroBatch, StepBatches
from mindyolo_v4.engine.optimizer import build_optimizer
from mindyolo_v4.engine.plan import fitted_epochs, make_plan, parts_by_size
from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.recorder import Recorder
from mindyolo_v4.engine.records import Records
from mindyolo_v4.engine.resume import continued_state, follow_epochs, follow_limit, saved_state
from mindyolo_v4.engine.sat import SelfAdversary, inference_mode
from mindyolo_v4.engine.saving import Saver, training_tensors
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.engine.step_profiler import StepProfiler
from mindyolo_v4.engine.task import Check, TrainingParts
from mindyolo_v4.errors import StoppedError, require
from mindyolo_v4.runtime.device import Runtime

logger = logging.getLogger(__name__)


class Session:
    """The pieces of one training, its state, and what is done with all of them together.

    Raises:
        UserError: an epoch has not even one optimizer step, or there are no validations for
            train.patience.
    """

    records: Records
    progress: Progress
    recorder: Recorder
    saver: Saver
    profiler: StepProfiler
    folder: Path

    def __init__(self, parts: TrainingParts, config: Config, runtime: Runtime):
        settings = config.train
        self.parts = parts
        self.config = config
        self.settings = settings
        self.runtime = runtime
        can_stop = settings.patience is None or parts.evaluate is not None
        require(can_stop, "train.patience", "needs validations", settings.patience, "data.val")
        self.writes = runtime.ranks.rank == 0
        self.resumed: Checkpoint | None = None
        self.resumed_at = (0, 0)  # epoch and step, as the run that wrote the checkpoint counted
        self.started_s = time.monotonic()
        self.step_batches = StepBatches(
            parts.steps_per_epoch, settings.accumulate, parts_by_size(config)
        )
        self.optimizer = build_optimizer(parts.network, config.optimizer)
        self.ema = Ema(parts.network, settings.ema) if settings.ema.decay > 0.0 else None
        self.train_step = TrainStep(
            parts.forward,
            parts.network,
            self.optimizer,
            self.ema,
            settings,
            runtime,
            tuple(self.step_batches.parts.values()),
        )
        self.adversary: SelfAdversary | None = None
        self.state = TrainingState(
            steps_per_epoch=self.step_batches.steps_per_epoch, world_size=runtime.ranks.size
        )
        self._follow(settings.epochs)

    def resume(self, checkpoint: Checkpoint) -> list[str]:
        """Take over what a checkpoint holds; return what to log.

        Raises:
            UserError: it is damaged, or belongs to another training.
        """
        names = tuple(self.parts.card.get("class_names", ()))
        require_same_classes(checkpoint, names, "this training")
        saved = saved_state(checkpoint, self.parts.best_metric)
        state, lines = continued_state(checkpoint, saved, self.state, self.settings)
        lines += follow_epochs(checkpoint, state, self.config)
        lines += follow_limit(checkpoint, state, self.settings)
        checkpoint.load_training_state(self.tensors())
        self.state = state
        if state.epochs:
            self._follow(state.epochs)
        self._stop_without_progress()
        if state.ends_epoch:
            self._stop_behind_limit(state.train_seconds)
        self.resumed = checkpoint
        self.resumed_at = saved.epoch, saved.step
        lines.append(f"resumed from {checkpoint.path} at step {state.step}")
        for line in changed_settings(checkpoint, self.config):
            lines.append(f"resumed with another value than the checkpoint's: {line}")
        return lines

    @contextmanager
    def recording(self, folder: Path) -> Iterator[None]:
        """Begin: give all devices the state of rank 0, and open the records of a run folder."""
        self.runtime.ranks.take_from_rank_0(self.tensors().values())
        self.train_step.update.remember_statistics()
        self.folder = folder
        names = self.parts.forward.part_names
        self.records = Records(folder, names, self.resumed_at, self.writes)
        self.progress = Progress(names, self.state.step, self.last_step, self.plan.epochs)
        self.recorder = Recorder(
            self.state, self.settings, self.records, self.progress, self.parts.callbacks
        )
        self.saver = Saver(
            folder,
            self.parts.card,
            self.state,
            self.settings,
            self.runtime,
            self.train_step,
            self.tensors,
            self._train_seconds,
        )
        self.profiler = StepProfiler(self.settings.profile_steps, folder, self.runtime.heartbeat)
        if self.resumed and self.state.best:
            before = self.resumed.path.parent
            if before.resolve() != folder.resolve():
                self.records.best(self.state.best)
                self.saver.bring_best(before / checkpoints.BEST, self.state.best["step"])
        with self.records, self.progress, self.profiler:
            yield

    def micro_batches(self) -> Iterator[list[MicroBatch]]:
        """Yield the micro-batches of each step that is left."""
        step = self.state.step
        if self._awaits_fit:
            end = (step // self.state.steps_per_epoch + 1) * self.state.steps_per_epoch
            yield from self._micro_batches_of(step, min(end, self.last_step))
            step = end
        yield from self._micro_batches_of(step, self.last_step)

    def _micro_batches_of(self, first_step: int, stop_step: int) -> Iterator[list[MicroBatch]]:
        start = self.step_batches.first_of(first_step)
        stop = self.step_batches.first_of(stop_step)
        if start < stop:
            yield from self.step_batches.grouped(self.parts.batches(start, stop), start)

    def compile(self, micro_batches: list[MicroBatch]) -> None:
        """Compile the training graphs before the first step, and log how long that took.

        Args:
            micro_batches: of the first step.
        """
        compile_steps(
            self.train_step,
            self.adversary,
            self.step_batches,
            micro_batches,
            self.runtime.heartbeat,
        )
        self.progress.restart_clock()
        self.recorder.start_epoch()
        self.compiled = self.state.step, time.monotonic()

    def step(self, micro_batches: list[MicroBatch]) -> None:
        """Do one optimizer step."""
        rate = self.plan.rates[self.state.step]
        with self.profiler.step(self.state.step + 1):
            if self.adversary is not None:
                micro_batches = self.adversary(self.state.step, micro_batches)
            if self.state.step < self.settings.pictures:
                with self.recorder.paused():
                    self.parts.see_batches(self.state.step, micro_batches)
            result = self.train_step(rate, micro_batches)
        self.recorder.flush()  # the step before, whose values are ready while this one runs
        self.state.step += 1
        images = self.runtime.ranks.size * sum(len(batch[0]) for batch in micro_batches)
        self.recorder.put(result, rate, images)
        self.runtime.heartbeat.beat()

    def save_inside_epoch(self) -> None:
        """Save where `train.checkpoint_steps` asks for a checkpoint of this step."""
        if self.saver.is_due_inside_epoch:
            self.recorder.flush()
            with self.recorder.paused():
                self.saver.save()

    def end_epoch(self, check: Check) -> None:
        """Log the epoch, validate and save as the settings ask; the training may be over now."""
        self.recorder.flush()
        self.recorder.end_epoch()
        ended_s = time.monotonic()
        self._stop_behind_limit(self._train_seconds())
        self._validate_and_save(check, ended_s)
        self.recorder.start_epoch()

    def complete(self, check: Check) -> None:
        """Do what a stopped or killed training has left undone behind the step it resumes from."""
        if self.state.validation_due:
            self._validate_and_save(check)
        elif self.is_over and self.resumed:
            last = self.folder / checkpoints.LAST
            if self.resumed.path.resolve() != last.resolve():
                self.saver.save()  # it is damaged or elsewhere, and no step will write it

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        return self.state.step >= self.last_step

    @contextmanager
    def saved_when_stopped(self) -> Iterator[None]:
        """Where a signal ends the block, write last.ckpt before any device leaves."""
        try:
            yield
        except StoppedError as stop:
            self.recorder.flush()
            self.saver.save_last()
            self.runtime.ranks.wait()  # rank 0 has written
            where = f"step {self.state.step} of {len(self.plan.rates)}, epoch {self.state.epoch}"
            logger.warning("stopped by %s at %s; repeat the command with --resume", stop, where)
            raise

    def tensors(self) -> dict[str, Parameter]:
        """Return everything that a step changes, by its name in a checkpoint."""
        return training_tensors(self.parts.network, self.optimizer, self.train_step, self.ema)

    def _validate_and_save(self, check: Check, epoch_ended_s: float | None = None) -> None:
        state = self.state
        fits = self._awaits_fit and state.ends_epoch and epoch_ended_s is not None
        is_due = state.ends_epoch and (fits or state.epoch % self.settings.val_interval == 0)
        if self.parts.evaluate and (is_due or self.is_over or state.validation_due):
            self._validate(check)
        if fits and (not self.is_over or self.stopped_by == "epochs"):  # more epochs may fit now
            self._fit_schedule(epoch_ended_s)
        self.saver.save()

    def _follow(self, epochs: int) -> None:
        """Take a number of epochs, and all that depends on it."""
        world_size = self.runtime.ranks.size
        self.plan = make_plan(self.config, self.state.steps_per_epoch, epochs, world_size)
        self.last_step = self.plan.last_step
        self.stopped_by = self.plan.ended_by
        if self.parts.alter is not None:
            network = self.parts.network
            self.adversary = SelfAdversary(self.parts.alter, network, self.plan.sat_rates)
        self.parts.set_epochs(epochs)

    @property
    def _awaits_fit(self) -> bool:
        """Whether `train.fit_schedule` still has to set the number of epochs."""
        is_fitted = self.state.fitted_minutes == self.settings.max_minutes
        return self.settings.fit_schedule and not is_fitted

    def _fit_schedule(self, epoch_ended_s: float) -> None:
        """Set the number of epochs by the time that this one and its validation have taken."""
        first_step, since_s = self.compiled
        step_s = (epoch_ended_s - since_s) / (self.state.step - first_step)
        epoch_s = step_s * self.state.steps_per_epoch
        validation_s = time.monotonic() - epoch_ended_s
        self._train_seconds()
        epochs = fitted_epochs(self.settings, self.state, epoch_s, validation_s)
        # All devices follow rank 0, whose clock differs from theirs.
        self.state.epochs = int(self.runtime.ranks.gather_rows(np.float32([[epochs]]))[0, 0])
        self.state.fitted_minutes = self.settings.max_minutes
        self._follow(self.state.epochs)
        self.progress.set_end(self.last_step, self.plan.epochs)
        text = f"an epoch takes {epoch_s:.1f} s and a validation {validation_s:.1f} s"
        limit = f"{self.settings.max_minutes:g} minutes"
        logger.info("fit_schedule: %s; %d epochs fit into %s", text, self.plan.epochs, limit)

    def _validate(self, check: Check) -> None:
        """Score the network, with averaged weights where there are any; keep the best."""
        assert self.parts.evaluate is not None
        state = self.state
        name = self.parts.best_metric
        self.saver.average_statistics()
        state.validation_due = True  # until it is over: a signal may end it
        with (
            self.ema.swapped_in() if self.ema else nullcontext(),
            inference_mode(self.parts.network),
        ):
            metrics = dict(self.parts.evaluate(check))
        state.validation_due = False

        train_seconds = self._train_seconds()
        self.recorder.validation(name, metrics)
        if state.improves(name, metrics):
            when = {"epoch": state.epoch, "step": state.step, "train_seconds": train_seconds}
            state.best = metrics | when
            state.validations_since_best = 0
            self.records.best(state.best)
            self.saver.save_best()
        elif metrics[name] is not None:
            state.validations_since_best += 1
            self._stop_without_progress()

    def _stop_without_progress(self) -> None:
        """End the training here if `train.patience` validations have brought nothing better."""
        patience = self.settings.patience
        is_enough = patience is not None and self.state.validations_since_best >= patience
        if is_enough and not self.is_over:
            self.last_step = self.state.step
            self.stopped_by = "patience"

    def _stop_behind_limit(self, train_seconds: float) -> None:
        """End the training here, at the end of an epoch, if it took over `train.max_minutes`."""
        limit_s = 60.0 * (self.settings.max_minutes or float("inf"))
        if self.runtime.ranks.any(train_seconds > limit_s):
            self.last_step = self.state.step
            self.stopped_by = "max_minutes"

    def _train_seconds(self) -> float:
        """Return the wall clock of the training until now, and note it in the state."""
        now_s = time.monotonic()
        self.state.train_seconds += now_s - self.started_s
        self.started_s = now_s
        return self.state.train_seconds

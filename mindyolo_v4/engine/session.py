"""One training put together: schedule, optimizer, averages, train step, records, checkpoints."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindspore import Parameter, nn

from mindyolo_v4.checkpoint import run_folder as checkpoints
from mindyolo_v4.checkpoint.file import EMA, LAYERS, OPTIMIZER, SCALER, Checkpoint, save
from mindyolo_v4.checkpoint.parameters import named_parameters, run_state
from mindyolo_v4.checkpoint.settings import changed_settings, require_same_classes
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.compilation import compile_steps
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.micro_batches import MicroBatch, StepBatches, parts_by_size
from mindyolo_v4.engine.optimizer import build_optimizer, optimizer_state
from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.recorder import Recorder
from mindyolo_v4.engine.records import Records
from mindyolo_v4.engine.resume import continued_state, saved_state
from mindyolo_v4.engine.sat import SelfAdversary, inference_mode
from mindyolo_v4.engine.schedule import learning_rates, rate_factor, sat_rates
from mindyolo_v4.engine.state import TrainingState, unreadable_images
from mindyolo_v4.engine.step import StepSettings, TrainStep
from mindyolo_v4.engine.step_profiler import StepProfiler
from mindyolo_v4.errors import StoppedError, UserError
from mindyolo_v4.runtime.device import Runtime

logger = logging.getLogger(__name__)

Check = Callable[[], None]  # raises StoppedError where a signal has come


@dataclass(frozen=True)
class TrainingParts:
    """What a task hands to the loop."""

    forward: nn.Cell  # construct(*micro-batch) -> (total, (part, ...)); attribute `part_names`
    network: nn.Cell  # inside `forward`: what is saved, averaged and frozen
    batches: Callable[[int, int], Iterator[MicroBatch]]  # number start..stop-1 of the training
    steps_per_epoch: int  # micro-batches per epoch on each device
    # Scores the network as it is now, on every device; calls the argument between its batches.
    evaluate: Callable[[Check], Mapping[str, Any]] | None
    card: Mapping[str, Any]  # what the checkpoints say of themselves; the session adds "training"
    # Images and a rate -> the images that self-adversarial training makes of them, if it is on.
    alter: nn.Cell | None = None
    best_metric: str = "AP"  # the largest value of this metric makes best.ckpt


class Session:
    """The pieces of one training, its state, and what is done with all of them together.

    Raises:
        UserError: an epoch has not even one optimizer step.
    """

    records: Records
    progress: Progress
    recorder: Recorder
    profiler: StepProfiler
    folder: Path

    def __init__(self, parts: TrainingParts, config: Config, runtime: Runtime):
        settings = config.train
        if parts.steps_per_epoch < settings.accumulate:
            expected = f"at most {parts.steps_per_epoch}, the micro-batches of an epoch on a device"
            problem = "is longer than an epoch"
            raise UserError("train.accumulate", problem, settings.accumulate, expected)
        self.parts = parts
        self.config = config
        self.settings = settings
        self.runtime = runtime
        self.writes = runtime.ranks.rank == 0
        self.resumed: Checkpoint | None = None
        self.resumed_step = 0  # as the run that wrote the checkpoint counted
        self.started_s = time.monotonic()

        self.step_batches = StepBatches(
            parts.steps_per_epoch, settings.accumulate, parts_by_size(config)
        )
        steps_per_epoch = self.step_batches.steps_per_epoch
        rates = learning_rates(config.optimizer, config.schedule, steps_per_epoch, settings.epochs)
        self.rates = rates * rate_factor(config, runtime.ranks.size)
        self.last_step = min(len(self.rates), settings.max_steps or len(self.rates))
        self.stopped_by = "epochs" if self.last_step == len(self.rates) else "max_steps"

        self.optimizer = build_optimizer(parts.network, config.optimizer)
        self.ema = Ema(parts.network, settings.ema) if settings.ema.decay > 0.0 else None
        self.train_step = TrainStep(
            parts.forward,
            parts.network,
            self.optimizer,
            self.ema,
            _step_settings(settings, runtime, tuple(self.step_batches.parts.values())),
        )
        self.adversary: SelfAdversary | None = None
        if parts.alter is not None:
            rates = sat_rates(config, steps_per_epoch)
            self.adversary = SelfAdversary(parts.alter, parts.network, rates)
        self.state = TrainingState(steps_per_epoch=steps_per_epoch, world_size=runtime.ranks.size)

    def resume(self, checkpoint: Checkpoint) -> list[str]:
        """Take over what a checkpoint holds; return what to log.

        Raises:
            UserError: it is damaged, or belongs to another training.
        """
        names = tuple(self.parts.card.get("class_names", ()))
        require_same_classes(checkpoint, names, "this training")
        saved = saved_state(checkpoint, self.parts.best_metric)
        state, lines = continued_state(checkpoint, saved, self.state, self.settings)
        checkpoint.load_training_state(self.tensors())
        self.state = state
        self.resumed = checkpoint
        self.resumed_step = saved.step
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
        self.records = Records(folder, names, self.resumed_step, self.writes)
        self.progress = Progress(names, self.state.step, self.last_step, self.settings.epochs)
        self.recorder = Recorder(self.state, self.settings, self.records, self.progress)
        self.profiler = StepProfiler(self.settings.profile_steps, folder, self.runtime.heartbeat)
        with self.records, self.progress, self.profiler:
            yield

    def micro_batches(self) -> Iterator[list[MicroBatch]]:
        """Yield the micro-batches of each step that is left."""
        start = self.step_batches.first_of(self.state.step)
        stop = self.step_batches.first_of(self.last_step)
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

    def step(self, micro_batches: list[MicroBatch]) -> None:
        """Do one optimizer step."""
        rate = self.rates[self.state.step]
        with self.profiler.step(self.state.step + 1):
            if self.adversary is not None:
                micro_batches = self.adversary(self.state.step, micro_batches)
            result = self.train_step(rate, micro_batches)
        self.recorder.flush()  # the step before, whose values are ready while this one runs
        self.state.step += 1
        images = self.runtime.ranks.size * sum(len(batch[0]) for batch in micro_batches)
        self.recorder.put(result, rate, images)
        self.runtime.heartbeat.beat()

    def save_inside_epoch(self) -> None:
        """Save where `train.checkpoint_steps` asks for a checkpoint of this step."""
        if self._is_due_inside_epoch():
            self.recorder.flush()
            with self.recorder.paused():
                self._save()

    def end_epoch(self, check: Check) -> None:
        """Log the epoch, validate and save as the settings ask; the training may be over now."""
        self.recorder.flush()
        self.recorder.end_epoch()
        limit_s = 60.0 * (self.settings.max_minutes or float("inf"))
        if self.runtime.ranks.any(self._train_seconds() > limit_s):
            self.last_step = self.state.step
            self.stopped_by = "max_minutes"
        self._validate_and_save(check)
        self.recorder.start_epoch()

    def complete(self, check: Check) -> None:
        """Do what a stopped or killed training has left undone behind the step it resumes from."""
        if self.state.validation_due:
            self._validate_and_save(check)
        elif self.is_over and self.resumed and self.resumed.path.name != checkpoints.LAST:
            self._save()  # last.ckpt is damaged, and no step will write it again

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
            self._save_last()
            self.runtime.ranks.wait()  # rank 0 has written
            where = f"step {self.state.step} of {len(self.rates)}, epoch {self.state.epoch}"
            logger.warning("stopped by %s at %s; repeat the command with --resume", stop, where)
            raise

    def tensors(self) -> dict[str, Parameter]:
        """Return everything that a step changes, by its name in a checkpoint."""
        network = self.parts.network
        groups = {
            "": named_parameters(network),
            OPTIMIZER: optimizer_state(network, self.optimizer),
            SCALER: self.train_step.scaler_state(),
            LAYERS: run_state(network),
        }
        if self.ema is not None:
            groups[EMA] = self.ema.by_name() | {"updates": self.ema.updates}
        return {
            prefix + name: value
            for prefix, group in groups.items()
            for name, value in group.items()
        }

    def _validate_and_save(self, check: Check) -> None:
        state = self.state
        is_due = state.ends_epoch and state.epoch % self.settings.val_interval == 0
        if self.parts.evaluate and (is_due or self.is_over or state.validation_due):
            self._validate(check)
        self._save()

    def _validate(self, check: Check) -> None:
        """Score the network, with averaged weights where there are any; keep the best."""
        assert self.parts.evaluate is not None
        state = self.state
        name = self.parts.best_metric
        self._average_statistics()
        state.validation_due = True  # until it is over: a signal may end it
        with (
            self.ema.swapped_in() if self.ema else nullcontext(),
            inference_mode(self.parts.network),
        ):
            metrics = dict(self.parts.evaluate(check))
        state.validation_due = False

        train_seconds = self._train_seconds()
        self.records.metrics(state.step, state.epoch, train_seconds, metrics)
        value = metrics[name]
        text = f"{name} undefined: no ground truth" if value is None else f"{name} {value:.4f}"
        text += unreadable_images(metrics)
        logger.info("epoch %d, step %d: %s", state.epoch, state.step, text)
        if state.improves(name, metrics):
            when = {"epoch": state.epoch, "step": state.step, "train_seconds": train_seconds}
            state.best = metrics | when
            self.records.best(state.best)
            self._write(self.folder / checkpoints.BEST)

    def _save(self) -> None:
        """Write last.ckpt, and epoch_NNNN.ckpt and step_NNNNNNNN.ckpt where they are due."""
        self._save_last()
        state = self.state
        if state.ends_epoch and state.epoch % self.settings.checkpoint_interval == 0:
            self._write(checkpoints.epoch_path(self.folder, state.epoch))
            self._keep_newest(checkpoints.EPOCH)
        if self._is_due_inside_epoch():
            self._write(checkpoints.step_path(self.folder, state.step))
            self._keep_newest(checkpoints.STEP)

    def _save_last(self) -> None:
        self._average_statistics()
        self._write(self.folder / checkpoints.LAST)

    def _average_statistics(self) -> None:
        """Average the statistics over the devices, which compiles a graph the first time."""
        with self.runtime.heartbeat.pause("averaging batch statistics"):
            self.train_step.average_statistics()

    def _is_due_inside_epoch(self) -> bool:
        every = self.settings.checkpoint_steps
        return every is not None and self.state.step % every == 0

    def _train_seconds(self) -> float:
        """Return the wall clock of the training until now, and note it in the state."""
        now_s = time.monotonic()
        self.state.train_seconds += now_s - self.started_s
        self.started_s = now_s
        return self.state.train_seconds

    def _keep_newest(self, kind: re.Pattern[str]) -> None:
        if self.writes:
            checkpoints.keep_newest(self.folder, kind, self.settings.keep_checkpoints)

    def _write(self, path: Path) -> None:
        self._train_seconds()
        with self.runtime.heartbeat.pause("saving"):
            if self.writes:
                card = dict(self.parts.card) | {"training": self.state.to_card()}
                save(path, self.tensors(), card)


def _step_settings(settings: TrainConfig, runtime: Runtime, parts: tuple[int, ...]) -> StepSettings:
    scale = settings.loss_scale
    if scale == "auto":
        is_float16 = runtime.amp_level != "O0" and runtime.amp_dtype == "float16"
        scale = "dynamic" if is_float16 else "none"
    return StepSettings(
        settings.accumulate,
        parts,
        settings.clip_norm,
        scale,
        settings.loss_scale_value,
        world_size=runtime.ranks.size,
        overflow_saturates=runtime.overflow_saturates,
    )

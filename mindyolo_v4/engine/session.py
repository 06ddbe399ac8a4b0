"""One training put together: schedule, optimizer, averages, train step, checkpoints."""

import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mindspore import Parameter, Tensor, nn

from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.collectives import take_from_rank_0
from mindyolo_v4.distributed.heartbeat import WATCH
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.optimizer import build_optimizer, freeze, optimizer_state
from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.recorder import TrainingState
from mindyolo_v4.engine.records import RunFiles
from mindyolo_v4.engine.schedule import learning_rates, rate_factor
from mindyolo_v4.engine.step import StepSettings, TrainStep
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.device import Runtime

logger = logging.getLogger(__name__)

MicroBatch = tuple[Tensor, ...]


@dataclass(frozen=True)
class TrainingParts:
    """What a task hands to the loop."""

    forward: nn.Cell  # construct(*micro-batch) -> (total, (part, ...)); attribute `part_names`
    network: (
        nn.Cell
    )  # inside `forward`: what is saved, averaged and frozen, by its own parameter names
    batches: Callable[
        [int, int], Iterator[MicroBatch]
    ]  # micro-batches start..stop-1, counted over the training
    steps_per_epoch: int  # micro-batches an epoch on each device
    evaluate: (
        Callable[[], Mapping[str, Any]] | None
    )  # scores the network as it is now; called on every device
    card: Mapping[str, Any]  # what the checkpoints say of themselves; the loop adds "training"
    best_metric: str = "AP"  # the largest value of this metric makes best.ckpt


def check_accumulation(parts: TrainingParts, settings: TrainConfig) -> None:
    """Raise UserError where an epoch has not even one optimizer step."""
    if parts.steps_per_epoch < settings.accumulate:
        expected = f"at most {parts.steps_per_epoch}, the micro-batches of an epoch on a device"
        raise UserError(
            "train.accumulate", "is longer than an epoch", settings.accumulate, expected
        )


class Run:
    """The pieces that one training is made of, and what can be done with all of them together."""

    def __init__(self, parts: TrainingParts, config: Config, runtime: Runtime, folder: Path):
        settings = config.train
        check_accumulation(parts, settings)
        self.parts, self.folder, self.writes = parts, folder, runtime.rank == 0
        self.accumulate = settings.accumulate
        self.steps_per_epoch = parts.steps_per_epoch // settings.accumulate
        rates = learning_rates(
            config.optimizer, config.schedule, self.steps_per_epoch, settings.epochs
        )
        self.rates = rates * rate_factor(config, runtime.world_size)
        self.settings = settings
        frozen = freeze(parts.network, settings.freeze)
        if frozen:
            logger.info("frozen: %d parameters", len(frozen))
        self.optimizer = build_optimizer(parts.network, config.optimizer)
        self.ema = Ema(parts.network, settings.ema) if settings.ema.decay > 0.0 else None
        step_settings = _step_settings(settings, runtime)
        self.train_step = TrainStep(
            parts.forward, parts.network, self.optimizer, self.ema, step_settings
        )
        self.state = TrainingState(
            steps_per_epoch=self.steps_per_epoch, world_size=runtime.world_size
        )
        self.resumed_step = 0  # as the run that wrote the checkpoint counted
        self.ticked = time.monotonic()

    @property
    def epoch(self) -> int:
        """The epoch, from 1, of the last step that was done."""
        return math.ceil(self.state.step / self.steps_per_epoch)

    def micro_batches(self, first: int, last: int) -> Iterator[list[MicroBatch]]:
        """Yield the micro-batches of optimizer steps first..last-1; an epoch's left-over ones are passed by."""
        per_epoch, k = self.parts.steps_per_epoch, self.accumulate
        used = self.steps_per_epoch * k
        start = first // self.steps_per_epoch * per_epoch + first % self.steps_per_epoch * k
        stop = last // self.steps_per_epoch * per_epoch + last % self.steps_per_epoch * k
        group: list[MicroBatch] = []
        if start >= stop:
            return
        for number, batch in enumerate(self.parts.batches(start, stop), start):
            if number % per_epoch < used:
                group.append(batch)
            if len(group) == k:
                yield group
                group = []

    def call(
        self, step: int, micro_batches: list[MicroBatch], progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Run one optimizer step; around the first one say that the graph compiles and how long that took."""
        if self.train_step.compiled:
            return self.train_step(self.rates[step], micro_batches)
        logger.info("compiling the training graph (once; nothing moves until it is done) ...")
        started = time.monotonic()
        with WATCH.pause("compiling"):
            values, finite = self.train_step(self.rates[step], micro_batches)
            finite.asnumpy()
        logger.info("compiled, first step included, in %.1f s", time.monotonic() - started)
        progress.restart_clock()
        return values, finite

    def end_epoch(self, files: RunFiles, last: bool) -> None:
        """Validate and save what the settings ask for at the end of an epoch or, with `last`, of the training."""
        ended, every = self.state.step % self.steps_per_epoch == 0, self.settings.val_interval
        if self.parts.evaluate is not None and (last or (ended and self.epoch % every == 0)):
            self.validate(files)
        self.save()

    def complete(self, files: RunFiles, resumed: Path | None, last_step: int) -> None:
        """Make up for what a stopped or killed training has left undone behind the step that it resumes from."""
        if self.state.validation_due:
            self.end_epoch(files, last=True)
        elif (
            resumed is not None and resumed.name != checkpoint.LAST and self.state.step >= last_step
        ):
            self.save()  # last.ckpt is damaged, and no step will write it again

    def validate(self, files: RunFiles) -> None:
        """Score the network, with averaged weights where there are any; keep the metrics if they are the best."""
        assert self.parts.evaluate is not None
        self.train_step.average_statistics()
        self.state.validation_due = True  # until it is over: a signal may end it
        with self.ema.swapped_in() if self.ema else nullcontext(), _inference(self.parts.network):
            metrics = dict(self.parts.evaluate())
        self.state.validation_due = False
        self.tick()
        state, name = self.state, self.parts.best_metric
        files.metrics(state.step, self.epoch, state.train_seconds, metrics)
        measured = metrics.get(name)
        value = -math.inf if measured is None else measured  # None: no truths to score against
        logger.info("epoch %d, step %d: %s %.4f", self.epoch, state.step, name, value)
        if state.best is None or value > state.best.get(name, -math.inf):
            state.best = metrics | {
                "epoch": self.epoch,
                "step": state.step,
                "train_seconds": state.train_seconds,
            }
            files.best(state.best)
            self._write(self.folder / checkpoint.BEST)

    def save(self) -> None:
        """Write last.ckpt, and epoch_NNNN.ckpt and step_NNNNNNNN.ckpt where they are due."""
        self.save_last()
        step = self.state.step
        if step % self.steps_per_epoch == 0 and self.epoch % self.settings.checkpoint_interval == 0:
            self._write(checkpoint.epoch_path(self.folder, self.epoch))
            self._keep_newest(checkpoint.EPOCH)
        if self.due_inside_epoch():
            self._write(checkpoint.step_path(self.folder, step))
            self._keep_newest(checkpoint.STEP)

    def save_last(self) -> None:
        """Write last.ckpt; called on every device."""
        self.train_step.average_statistics()
        self.tick()
        self._write(self.folder / checkpoint.LAST)

    def due_inside_epoch(self) -> bool:
        """Tell whether `checkpoint_steps` asks for a checkpoint of this step."""
        every = self.settings.checkpoint_steps
        return every is not None and self.state.step % every == 0

    def load(self, path: Path) -> None:
        """Continue where a checkpoint of the same training stands."""
        card = checkpoint.load_training_state(path, self.tensors())
        if "training" not in card:
            raise UserError(path, "carries no training to resume; give it as --weight instead")
        fields = TrainingState.__dataclass_fields__
        saved = TrainingState(
            **{name: value for name, value in card["training"].items() if name in fields}
        )
        self.resumed_step = saved.step
        if saved.world_size != self.state.world_size:
            saved = self._for_these_devices(path, saved, card)
        there, here = saved.steps_per_epoch, self.state.steps_per_epoch
        if there != here:
            raise UserError(
                "--resume", f"{path} has another steps_per_epoch: other data or batch", here, there
            )
        self.state = saved
        self.train_step.update.remember_statistics()
        logger.info("resumed from %s at step %d", path, saved.step)

    def share_start(self) -> None:
        """Start every device from what rank 0 has."""
        take_from_rank_0(self.tensors().values(), self.state.world_size)
        self.train_step.update.remember_statistics()

    def _for_these_devices(
        self, path: Path, saved: TrainingState, card: Mapping[str, Any]
    ) -> TrainingState:
        """Return the state of another number of devices with its place in the epoch counted in our steps.

        A step of any number of devices takes the next images of the epoch's one order, so the images done tell the
        step; what does not fill one of ours is done again.
        """
        held = card["config"]["train"]
        there = held["per_batch_size"] * held["accumulate"] * saved.world_size  # images a step
        here = self.settings.per_batch_size * self.accumulate * self.state.world_size
        if abs(saved.steps_per_epoch * there - self.steps_per_epoch * here) >= max(there, here):
            problem = f"{path} has epochs of another length, besides its {saved.world_size} devices: other data"
            raise UserError(
                "--resume", problem, self.steps_per_epoch * here, saved.steps_per_epoch * there
            )
        epochs, images = (
            saved.step // saved.steps_per_epoch,
            saved.step % saved.steps_per_epoch * there,
        )
        place = min(images // here, self.steps_per_epoch)
        over = 0 < place == self.steps_per_epoch  # what is left of the epoch fills no step of ours
        step = epochs * self.steps_per_epoch + place
        logger.warning(
            "resumed on %d device(s) from %d: step %d of %d images becomes step %d of %d; %d images are repeated",
            *(self.state.world_size, saved.world_size, saved.step, there, step, here),
            0 if over else images - place * here,
        )
        size = {"steps_per_epoch": self.steps_per_epoch, "world_size": self.state.world_size}
        if over:
            saved = replace(saved, validation_due=True, epoch_loss_sum=0.0, epoch_finite_steps=0)
        return replace(saved, step=step, **size)

    def tensors(self) -> dict[str, Parameter]:
        """Return everything that a step changes, by its name in a checkpoint."""
        network = self.parts.network
        groups = {
            "": named_parameters(network),
            checkpoint.OPTIMIZER: optimizer_state(network, self.optimizer),
            checkpoint.SCALER: self.train_step.scaler_state(),
        }
        if self.ema is not None:
            groups[checkpoint.EMA] = self.ema.by_name() | {"updates": self.ema.updates}
        return {
            prefix + name: value
            for prefix, group in groups.items()
            for name, value in group.items()
        }

    def tick(self) -> None:
        """Add the time since the last call to the training's."""
        now = time.monotonic()
        self.state.train_seconds += now - self.ticked
        self.ticked = now

    def _keep_newest(self, kind: re.Pattern[str]) -> None:
        if self.writes:
            checkpoint.keep_newest(self.folder, kind, self.settings.keep_checkpoints)

    def _write(self, path: Path) -> None:
        with WATCH.pause("saving"):
            if self.writes:
                card = dict(self.parts.card) | {
                    "training": asdict(self.state) | {"epoch": self.epoch}
                }
                checkpoint.save(path, self.tensors(), card, with_sum=True)


@contextmanager
def _inference(network: nn.Cell) -> Iterator[None]:
    network.set_train(False)
    try:
        yield
    finally:
        network.set_train(True)


def _step_settings(settings: TrainConfig, runtime: Runtime) -> StepSettings:
    scale = settings.loss_scale
    if scale == "auto":
        scale = "none" if runtime.amp_level == "O0" else "dynamic"
    return StepSettings(
        settings.accumulate,
        settings.clip_norm,
        scale,
        settings.loss_scale_value,
        world_size=runtime.world_size,
    )

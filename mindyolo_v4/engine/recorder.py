"""What becomes of each step's values: rows, progress line, and the count of steps that were not finite."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mindspore import Tensor

from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.records import RunFiles
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)


class TrainingDivergedError(UserError):
    """Loss or gradients were not finite for `train.max_nonfinite` steps in a row."""

    exit_status = 3


@dataclass
class TrainingState:
    """What a checkpoint's card carries of the loop itself."""

    step: int = 0  # optimizer steps done
    train_seconds: float = 0.0  # wall clock of the training, compilation and validation included
    nonfinite_steps: int = 0
    nonfinite_in_a_row: int = 0
    best: dict[str, Any] | None = (
        None  # metrics of the best checkpoint, with epoch, step, train_seconds
    )
    epoch_loss_sum: float = 0.0  # over the finite steps of the epoch that has begun
    epoch_finite_steps: int = 0
    validation_due: bool = False  # a signal has ended the validation of this step
    steps_per_epoch: int = 0  # optimizer steps
    world_size: int = 1


@dataclass(frozen=True)
class Outcome:
    """A step that may still be running."""

    step: int  # from 1
    epoch: int  # from 1
    values: Tensor  # total and parts
    finite: Tensor
    learning_rate: float
    images_per_s: float


@dataclass
class EpochSpeed:
    """The images a second of an epoch; the step that compiles counts only where there is no other."""

    images: int = 0  # of all devices
    since: float = field(default_factory=time.monotonic)
    compiling_speed: float = 0.0  # images/s of the step that compiled

    def mean(self) -> float:
        """Return the images a second until now."""
        return (
            self.images / max(time.monotonic() - self.since, 1e-9)
            if self.images
            else self.compiling_speed
        )


@dataclass
class Recorder:
    """Read a step's values back one step late, so that the device never waits for the host, and pass them on."""

    state: TrainingState
    settings: TrainConfig
    files: RunFiles
    progress: Progress
    pending: Outcome | None = None
    images: int = 0  # since the last row, all devices
    since: float = field(default_factory=time.monotonic)
    epoch: EpochSpeed = field(default_factory=EpochSpeed)
    compiled: bool = False

    def put(
        self, epoch: int, result: tuple[Tensor, Tensor], learning_rate: float, images: int
    ) -> None:
        """Keep the result of the step that `state` has just counted; `images` are those of all devices."""
        step, now = self.state.step, time.monotonic()
        self.images += images
        speed = self.images / max(now - self.since, 1e-9)
        if self.compiled:
            self.epoch.images += images
        else:
            self.epoch.since, self.epoch.compiling_speed, self.compiled = now, speed, True
        self.pending = Outcome(step, epoch, *result, learning_rate, speed)
        if step % self.settings.log_interval == 0:
            self.restart_clock()

    def flush(self) -> None:
        """Read back the step kept, if there is one. Raises TrainingDivergedError."""
        if self.pending is None:
            return
        done, self.pending = self.pending, None
        values = done.values.asnumpy()
        if done.step % self.settings.log_interval == 0:
            row = (done.step, done.epoch, values, done.learning_rate, done.images_per_s)
            self.files.step(*row)
            self.progress.step(*row)
        finite, loss = bool(done.finite.asnumpy()), float(values[0])
        self._count(finite, done.step, loss)
        if finite:
            self.state.epoch_loss_sum += loss
            self.state.epoch_finite_steps += 1

    def restart_clock(self) -> None:
        """Leave what has passed until now, a validation say, out of the speed."""
        self.images, self.since = 0, time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside the `with`, saving say, out of the speeds of step and epoch."""
        started = time.monotonic()
        yield
        self.restart_clock()
        self.epoch.since += self.since - started

    def start_epoch(self) -> None:
        """Begin to count the images of an epoch; what has passed until now is left out of its speed."""
        self.restart_clock()
        self.epoch = EpochSpeed(since=self.since)

    def end_epoch(self, epoch: int) -> None:
        """Tell the speed of all devices over the epoch, since a resume if there was one, and its mean loss."""
        state = self.state
        loss = (
            state.epoch_loss_sum / state.epoch_finite_steps
            if state.epoch_finite_steps
            else math.nan
        )
        logger.info("Epoch: [%d] Avg img/s: %.3f Loss: %.4f", epoch, self.epoch.mean(), loss)
        if (
            state.step % state.steps_per_epoch == 0
        ):  # a training that stops inside an epoch may go on with it
            state.epoch_loss_sum, state.epoch_finite_steps = 0.0, 0

    def _count(self, finite: bool, step: int, loss: float) -> None:
        state = self.state
        if finite:
            state.nonfinite_in_a_row = 0
            return
        state.nonfinite_steps += 1
        state.nonfinite_in_a_row += 1
        logger.warning(
            "step %d: its loss (%g) or gradients are not finite; nothing was changed", step, loss
        )
        if state.nonfinite_in_a_row >= self.settings.max_nonfinite:
            raise TrainingDivergedError(
                "training",
                f"{state.nonfinite_in_a_row} steps in a row were not finite, the last one step {step}; try a smaller "
                "optimizer.lr or a longer warm-up, train.clip_norm 10, train.loss_scale dynamic in mixed precision, "
                "and check the data (python -m mindyolo_v4.tools.check_data)",
            )

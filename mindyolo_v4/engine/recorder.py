"""What becomes of each step's values: rows, progress line, and the count of non-finite steps."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mindspore import Tensor

from mindyolo_v4.config.command_line import command_for
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.callbacks import Callback
from mindyolo_v4.engine.progress import Progress
from mindyolo_v4.engine.records import Records
from mindyolo_v4.engine.state import TrainingState, unreadable_images
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)


class TrainingDivergedError(UserError):
    """Loss or gradients were not finite for `train.max_nonfinite` steps in a row."""

    exit_status = 3


@dataclass
class Recorder:
    """Read a step's values back one step late, so that the device never waits for the host."""

    state: TrainingState
    settings: TrainConfig
    records: Records
    progress: Progress
    callbacks: Sequence[Callback] = ()
    # A step that may still be running: step and epoch from 1, values (total and parts), whether
    # they are finite, learning rate, images per second.
    pending: tuple[int, int, Tensor, Tensor, float, float] | None = None
    images: int = 0  # of all devices, since the last row
    since_s: float = field(default_factory=time.monotonic)
    epoch_images: int = 0  # of all devices, since the epoch's start or the resume
    epoch_since_s: float = field(default_factory=time.monotonic)

    def put(self, result: tuple[Tensor, Tensor], learning_rate: float, images: int) -> None:
        """Keep the result of the step that `state` has just counted; `images`: of all devices."""
        state = self.state
        self.images += images
        self.epoch_images += images
        speed = self.images / max(time.monotonic() - self.since_s, 1e-9)
        self.pending = (state.step, state.epoch, *result, learning_rate, speed)
        if state.step % self.settings.log_interval == 0:
            self.restart_clock()

    def flush(self) -> None:
        """Read back the step kept, if there is one. Raises TrainingDivergedError."""
        if self.pending is None:
            return
        step, epoch, values, finite, learning_rate, speed = self.pending
        self.pending = None
        numbers = values.asnumpy()
        if step % self.settings.log_interval == 0:
            self.records.step(step, epoch, numbers, learning_rate, speed)
            self.progress.step(step, epoch, numbers, learning_rate, speed)
        for callback in self.callbacks:
            row = [*numbers.tolist(), learning_rate, speed]
            callback.on_step(step, epoch, dict(zip(self.records.names, row, strict=True)))
        loss = float(numbers[0])
        if bool(finite.asnumpy()):
            self.state.nonfinite_in_a_row = 0
            self.state.epoch_loss_sum += loss
            self.state.epoch_finite_steps += 1
        else:
            self._count_nonfinite(step, loss)

    def restart_clock(self) -> None:
        """Leave what has passed until now, a validation say, out of the speed."""
        self.images = 0
        self.since_s = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside the block, saving say, out of the speeds of step and epoch."""
        started_s = time.monotonic()
        yield
        self.restart_clock()
        self.epoch_since_s += self.since_s - started_s

    def start_epoch(self) -> None:
        """Begin to count the images of an epoch; what has passed until now is left out."""
        self.restart_clock()
        self.epoch_images = 0
        self.epoch_since_s = self.since_s

    def end_epoch(self) -> None:
        """Log the speed of all devices over the epoch, since a resume if any, and its mean loss."""
        state = self.state
        speed = self.epoch_images / max(time.monotonic() - self.epoch_since_s, 1e-9)
        count = state.epoch_finite_steps
        loss = state.epoch_loss_sum / count if count else math.nan
        logger.info("Epoch: [%d] Avg img/s: %.3f Loss: %.4f", state.epoch, speed, loss)
        for callback in self.callbacks:
            callback.on_epoch(state.step, state.epoch, {"loss": loss, "images_per_s": speed})
        if state.ends_epoch:  # a training that stops inside an epoch may continue it
            state.epoch_loss_sum = 0.0
            state.epoch_finite_steps = 0

    def validation(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Record and log the metrics of a validation; `name` is the one that chooses the best."""
        state = self.state
        self.records.metrics(state.step, state.epoch, state.train_seconds, metrics)
        value = metrics[name]
        text = f"{name} undefined: no ground truth" if value is None else f"{name} {value:.4f}"
        text += unreadable_images(metrics)
        logger.info("epoch %d, step %d: %s", state.epoch, state.step, text)
        for callback in self.callbacks:
            callback.on_validation(state.step, state.epoch, metrics)

    def _count_nonfinite(self, step: int, loss: float) -> None:
        state = self.state
        state.nonfinite_steps += 1
        state.nonfinite_in_a_row += 1
        logger.warning(
            "step %d: loss (%g) or gradients are not finite; no weight changed", step, loss
        )
        if state.nonfinite_in_a_row >= self.settings.max_nonfinite:
            raise TrainingDivergedError(
                "training",
                f"{state.nonfinite_in_a_row} steps in a row were not finite, the last one step "
                f"{step}; try a smaller optimizer.lr or a longer warm-up, train.clip_norm 10, "
                "train.loss_scale dynamic in mixed precision, and check the data "
                f"({command_for('check-data')})",
            )

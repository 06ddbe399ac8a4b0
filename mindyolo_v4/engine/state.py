"""What a training remembers between its steps, and how it ended."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class TrainingState:
    """What a checkpoint's card carries of the training itself."""

    step: int = 0  # optimizer steps done
    train_seconds: float = 0.0  # wall clock, compilation and validation included
    nonfinite_steps: int = 0
    nonfinite_in_a_row: int = 0
    best: dict[str, Any] | None = None  # metrics of best.ckpt, with epoch, step, train_seconds
    epoch_loss_sum: float = 0.0  # over the finite steps of the current epoch
    epoch_finite_steps: int = 0
    validation_due: bool = False  # a signal has ended the validation of this step
    steps_per_epoch: int = 0  # optimizer steps
    world_size: int = 1
    # Of those with a defined metric, how many in a row have not been better than `best`.
    validations_since_best: int = 0
    epochs: int = 0  # that train.fit_schedule has set; 0: those of the configuration
    fitted_minutes: float = 0.0  # the train.max_minutes that `epochs` was fitted to

    @property
    def epoch(self) -> int:
        """The epoch, from 1, of the last step that was done."""
        return math.ceil(self.step / self.steps_per_epoch)

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step that was done is the last one of its epoch."""
        return self.step % self.steps_per_epoch == 0

    def to_card(self) -> dict[str, Any]:
        """Return what the card says under "training"."""
        return asdict(self) | {"epoch": self.epoch}

    def improves(self, metric: str, metrics: dict[str, Any]) -> bool:
        """Tell whether a metric is larger than the best so far; one that is undefined never is."""
        value = metrics[metric]
        best = None if self.best is None else self.best.get(metric)
        return value is not None and (best is None or value > best)

    def end(self, stopped_by: str) -> dict[str, Any]:
        """Return how a training has ended, for its record."""
        return {
            "stopped_by": stopped_by,
            "step": self.step,
            "epoch": self.epoch,
            "train_seconds": round(self.train_seconds, 3),
            "nonfinite_steps": self.nonfinite_steps,
        }

    def end_lines(self, metric: str, stopped_by: str) -> list[str]:
        """Return what the log says at the end of a training."""
        lines = [
            f"training ended by train.{stopped_by} at step {self.step}, epoch {self.epoch}, after "
            f"{self.train_seconds / 60:.1f} minutes; steps that were not finite: "
            f"{self.nonfinite_steps}"
        ]
        if self.best is not None:
            where = f"epoch {self.best['epoch']}, step {self.best['step']}"
            value = f"{self.best[metric]:.4f} ({where}){unreadable_images(self.best)}"
            lines.append(f"best {metric}: {value}")
        return lines


def unreadable_images(metrics: Mapping[str, Any]) -> str:
    """Return what to say of the images that make a score wrong."""
    count = metrics.get("unreadable")
    return f"; {count} images could not be read" if count else ""

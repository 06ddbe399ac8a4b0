"""What a Python program may follow of a training that it starts."""

from collections.abc import Mapping
from typing import Any, Protocol


class Callback(Protocol):
    """Receives what a training records; a subclass defines the methods that it needs.

    Steps and epochs count from 1. Of several devices, only the first one calls. An exception of a
    callback ends the training.
    """

    def on_step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Receive an optimizer step, one step late: the columns of steps.csv from `loss` on."""

    def on_epoch(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Receive the end of an epoch: its mean `loss`, NaN without any, and `images_per_s`."""

    def on_validation(self, step: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Receive the metrics of a validation, as metrics.json has them; None is undefined."""

    def on_end(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Receive the end of a complete training.

        Values: `folder` (the run folder), `stopped_by`, `train_seconds`, `nonfinite_steps` and
        `best` (what metrics.json holds, or None). A training that ends with an exception does not
        call this.
        """

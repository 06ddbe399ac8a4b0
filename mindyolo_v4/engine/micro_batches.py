"""The micro-batches of each optimizer step, cut into parts where their images are large."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from mindyolo_v4.errors import require

MicroBatch = tuple[Tensor, ...]  # images (B, 3, S, S), then targets, B in front


@dataclass(frozen=True)
class StepBatches:
    """Which of the numbered micro-batches belong to which optimizer step.

    Raises:
        UserError: an epoch has not even one optimizer step.
    """

    batches_per_epoch: int
    accumulate: int  # micro-batches per step, before they are cut
    parts: Mapping[int, int]  # by the side of the images

    def __post_init__(self) -> None:
        expected = f"at most {self.batches_per_epoch}, the micro-batches of an epoch on a device"
        is_enough = self.batches_per_epoch >= self.accumulate
        require(is_enough, "train.accumulate", "is longer than an epoch", self.accumulate, expected)

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of an epoch."""
        return self.batches_per_epoch // self.accumulate

    def first_of(self, step: int) -> int:
        """Return the number of a step's first micro-batch."""
        epoch, inside = divmod(step, self.steps_per_epoch)
        return epoch * self.batches_per_epoch + inside * self.accumulate

    def grouped(self, batches: Iterable[MicroBatch], first: int) -> Iterator[list[MicroBatch]]:
        """Yield the micro-batches of each step; what fills no step of its epoch is left out.

        Args:
            batches: from number `first` on, which begins a step.
        """
        used = self.steps_per_epoch * self.accumulate
        group: list[MicroBatch] = []
        for number, batch in enumerate(batches, first):
            inside = number % self.batches_per_epoch
            if inside < used:
                group += cut(batch, self.parts.get(batch[0].shape[-1], 1))
                if (inside + 1) % self.accumulate == 0:
                    yield group
                    group = []


def cut(batch: MicroBatch, parts: int) -> list[MicroBatch]:
    """Return a micro-batch in equal parts."""
    if parts == 1:
        return [batch]
    columns = [np.split(column.asnumpy(), parts) for column in batch]
    return [tuple(Tensor(piece) for piece in pieces) for pieces in zip(*columns, strict=True)]


def stand_in(batch: MicroBatch, size: int, count: int) -> MicroBatch:
    """Return a micro-batch of `count` black images of side `size` and no targets, for compilation.

    It has the types of `batch`, and the shapes of its targets.
    """
    images, *targets = (column.asnumpy() for column in batch)
    zeros = [np.zeros((count, *images.shape[1:-2], size, size), images.dtype)]
    zeros += [np.zeros((count, *column.shape[1:]), column.dtype) for column in targets]
    return tuple(Tensor(column) for column in zeros)

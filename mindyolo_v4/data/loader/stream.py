"""Batches of training images, made of rows that `pipeline` runs.

A row is one image with its tables: `TrainStream._row` makes it from a number. The
last column of a batch holds notes (what could not be read, and how many ground-truth boxes did not
fit), which this process counts and takes off.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from traceback import format_exc
from typing import Any, Protocol

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.images import channels_first
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.loader.epoch import NoReadableImageError, SampleNotes
from mindyolo_v4.data.loader.pipeline import Row, RowBatches, run, worker_count
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.loader.sizes import TrainSizes
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)

Targets = Callable[..., Row]  # what a sample's `targets()` returns -> arrays

NAMED_IMAGES = 16  # unreadable images that one sample's notes can name
NOTHING_READABLE = -1  # in place of the number of unreadable images
# MindData lists all batch numbers at once; a long training is cut into pipelines
BATCHES_PER_PIPELINE = 2**18


class Ranks(Protocol):
    """Which of how many devices this process serves."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...


class TrainStream:
    """Micro-batches of a training, the same for any number of workers and any start.

    Position k x size + rank of an epoch's order is sample k of a device; what does not fill a
    micro-batch on every device is left out of the epoch.

    Args:
        assign: the target assignment for each input side of the training, pixels; which of them a
            micro-batch has, `sizes.TrainSizes` says.
        accumulate: micro-batches per optimizer step.
        growing_epochs: of the training, if its sizes grow (`sizes.TrainSizes`).
    """

    def __init__(
        self,
        samples: TrainSamples | ClassTrainSamples,
        assign: Mapping[int, Targets],
        per_batch_size: int,
        num_workers: int | None,
        ranks: Ranks,
        accumulate: int = 1,
        growing_epochs: int | None = None,
    ):
        self.samples = samples
        self.steps_per_epoch = len(samples) // (per_batch_size * ranks.size)
        self._sizes = TrainSizes(
            tuple(assign), samples.seed, self.steps_per_epoch, accumulate, growing_epochs
        )
        self._samples = {size: samples.at_size(size) for size in assign}
        self._assign = assign
        self._per_batch_size = per_batch_size
        self._ranks = ranks
        self._workers = worker_count(num_workers, ranks.size)
        self._truths_dropped = 0
        self._unreadable: Counter[str] = Counter()
        if self.steps_per_epoch == 0:
            raise UserError(
                "train.per_batch_size",
                "one batch per device needs more images than the training split has",
                got=f"{per_batch_size} x {ranks.size} devices",
                expected=f"at most {len(samples)} in all",
            )

    def batches(self, start: int, stop: int) -> Iterator[tuple[ms.Tensor, ...]]:
        """Yield micro-batches number start .. stop - 1, counted from the beginning of the training.

        Element 0 is the images, uint8 (B, 3, S, S); then what `assign[S]` returns, batched.

        Raises:
            UserError: no image can be read.
            RuntimeError: a sample failed; the message has the worker's traceback, the image files,
                seed, epoch and index.
        """
        largest = max(self._sizes.sizes)
        columns = len(self._row_without_image(largest))
        for first in range(start, stop, BATCHES_PER_PIPELINE):
            last = min(stop, first + BATCHES_PER_PIPELINE)
            numbers = RowBatches(self._row, self._per_batch_size, first, last)
            with closing(run(numbers, columns, self._workers, largest)) as pipeline:
                for *batch, notes in pipeline:
                    self._note(notes.asnumpy())
                    yield tuple(batch)

    def set_epochs(self, epochs: int) -> None:
        """Take another number of epochs for the batches that are asked for from now on."""
        for samples in self._samples.values():
            samples.set_epochs(epochs)
        if self._sizes.growing_epochs is not None:
            self._sizes = replace(self._sizes, growing_epochs=epochs)

    def report(self) -> dict[str, Any]:
        """Return the counts so far: truths_dropped, and unreadable {path: attempts}."""
        return {"truths_dropped": self._truths_dropped, "unreadable": dict(self._unreadable)}

    def _row(self, number: int) -> Row:
        """Make row `number` of this device, counted from the start of the training."""
        epoch, position = divmod(number, self.steps_per_epoch * self._per_batch_size)
        index = position * self._ranks.size + self._ranks.rank
        size = self._sizes.of_batch(number // self._per_batch_size)
        try:
            sample, notes = self._samples[size].sample_with_notes(epoch, index)
            tables = self._assign[size](*sample.targets())
        except NoReadableImageError:
            return self._row_without_image(size)
        except Exception as error:
            # MindData makes the exception anew from one string (which not every class can be made
            # of), and keeps what follows the last "Traceback" in it
            own = self.samples.own_path(epoch, index)
            where = f"seed {self.samples.seed}, epoch {epoch}, index {index}"
            raise RuntimeError(f"{format_exc()}in the sample of {own} ({where})") from error
        return channels_first(sample.image), *tables, _pack_notes(notes)

    def _row_without_image(self, size: int) -> Row:
        """Return the row that tells that no image can be read."""
        notes = _pack_notes(SampleNotes())
        notes[1] = NOTHING_READABLE
        tables = self._assign[size](*self.samples.no_targets)
        return np.zeros((3, size, size), np.uint8), *tables, notes

    def _note(self, notes: NDArray[np.int64]) -> None:
        """Add up the notes (B, 2 + NAMED_IMAGES) of one batch."""
        files = self.samples.files
        if (notes[:, 1] == NOTHING_READABLE).any():
            raise NoReadableImageError(self.samples.source, files.path(0))
        named = notes[:, 2:][notes[:, 2:] >= 0]
        self._truths_dropped += int(notes[:, 0].sum())
        for path in (str(files.path(int(image))) for image in named):
            if path not in self._unreadable:
                logger.warning("%s: could not be decoded; the next image takes its place", path)
            self._unreadable[path] += 1


def _pack_notes(notes: SampleNotes) -> NDArray[np.int64]:
    """Lay notes out as [truths dropped, unreadable images, their numbers ..., -1 ...]."""
    packed = np.full(2 + NAMED_IMAGES, -1, np.int64)
    packed[0] = notes.truths_dropped
    packed[1] = len(notes.unreadable)
    named = notes.unreadable[:NAMED_IMAGES]
    packed[2 : 2 + len(named)] = named
    return packed

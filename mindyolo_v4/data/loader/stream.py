"""MindData pipelines: training micro-batches and test images, made in worker processes, counted from the start.

MindData hands out the work and reports failures; the rows themselves go through a ring of batches in shared memory.
Every row ends in a column of notes (what could not be read or kept), which is taken off before a batch is handed on.
"""

import logging
import math
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import ImageReadError, decode_image, fit_image, grey_image
from mindyolo_v4.data.loader.batch_ring import BatchRing
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.loader.samples import NoReadableImageError, SampleNotes, TrainSamples
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.data.sample import TruthTable
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)

Row = tuple[np.ndarray, ...]
Targets = Callable[..., Row]  # what a sample's `targets()` returns -> arrays

NAMED_IMAGES = 16  # unreadable images that one sample's notes can name
NO_IMAGE_MARK = "[no readable image]"  # MindData hands on a worker's exception as text only
PREFETCH_BYTES = (
    96 * 2**20
)  # images that are made in advance take at most this much (two batches always fit)
LARGEST_GROUP = (
    4  # rows that a process makes at once, a power of 2: each call through MindData costs 0.5 ms
)
QUEUED_GROUPS = 16  # MindData looks at an empty queue only every 0.1 s, so short queues starve small, fast samples
ROWS_PER_PIPELINE = (
    2**20
)  # MindData lists all row numbers at once; a long training is cut into pipelines


class _Source(Protocol):
    """Rows by number, an image (S, S, 3) first, as GeneratorDataset reads them."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Row: ...


def worker_count(num_workers: int | None, world_size: int) -> int:
    """Return the loader processes of a device: as configured, else this machine's cores a device, 1 to 8.

    MindData takes no more than the machine has cores.
    """
    cores = os.cpu_count() or 1
    if num_workers is not None:
        return min(num_workers, cores)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return max(1, min(8, usable // world_size))


def prefetch_size(per_batch_size: int, img_size: int) -> int:
    """Return how many batches may be made in advance, 2 to 16."""
    return max(2, min(16, PREFETCH_BYTES // (per_batch_size * 3 * img_size**2)))


def _pack_notes(notes: SampleNotes) -> NDArray[np.int64]:
    """Lay notes out as [truths dropped, unreadable images, their numbers ..., -1 ...]."""
    packed = np.full(2 + NAMED_IMAGES, -1, np.int64)
    packed[:2] = notes.truths_dropped, len(notes.unreadable)
    named = notes.unreadable[:NAMED_IMAGES]
    packed[2 : 2 + len(named)] = named
    return packed


class _TrainSource:
    """Rows of one device, numbered from the start of the training."""

    def __init__(self, stream: "TrainStream", assign: Targets, first: int, length: int):
        self._samples, self._assign = stream.samples, assign
        self._rows_per_epoch = stream.steps_per_epoch * stream.per_batch_size
        self._rank, self._world_size = stream.rank, stream.world_size
        self._first, self._length = first, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Row:
        epoch, place = divmod(self._first + row, self._rows_per_epoch)
        index = place * self._world_size + self._rank
        try:
            sample, notes = self._samples.sample_with_notes(epoch, index)
            return (sample.image, *self._assign(*sample.targets()), _pack_notes(notes))
        except Exception as error:
            # MindData makes the exception anew from one string (which not every class can be made of), and keeps what
            # follows the last "Traceback" in it: so the original traceback goes into the message
            mark = f"\n{NO_IMAGE_MARK}" if isinstance(error, NoReadableImageError) else ""
            own = self._samples.own_path(epoch, index)
            where = (
                f"in the sample of {own} (seed {self._samples.seed}, epoch {epoch}, index {index})"
            )
            raise RuntimeError(f"{traceback.format_exc()}{where}{mark}") from error


class _RingSource:
    """The rows of a source, put into the ring; what is left for MindData to hand on is a number for several of them."""

    def __init__(self, source: _Source, ring: BatchRing, group: int):
        self._source, self._ring, self._group = source, ring, group

    def __len__(self) -> int:
        return len(self._source) // self._group

    def __getitem__(self, number: int) -> Row:
        cv2.setNumThreads(1)  # the worker processes are the parallelism
        first = int(number) * self._group
        for row in range(first, first + self._group):
            image, *tables = self._source[row]
            self._ring.write(row, image, tables)
        return (np.array(number, np.int64),)


@dataclass(frozen=True)
class _Shape:
    """The pipeline's batches and width."""

    tables: Row  # what a row has besides its image, for shapes and types; notes last
    per_batch_size: int
    img_size: int
    workers: int


def _batches(
    source: _Source, shape: _Shape, report: Callable[[np.ndarray], None]
) -> Iterator[tuple[ms.Tensor, ...]]:
    """Run one pipeline to its end; its processes end with it, however it is left."""
    length = prefetch_size(shape.per_batch_size, shape.img_size)
    ring = BatchRing(length, shape.per_batch_size, shape.img_size, shape.tables)
    ds.config.set_prefetch_size(QUEUED_GROUPS)
    group, workers = math.gcd(shape.per_batch_size, LARGEST_GROUP), shape.workers
    groups = ds.GeneratorDataset(
        _RingSource(source, ring, group),
        ["number"],
        shuffle=False,
        num_parallel_workers=workers,
        python_multiprocessing=workers > 1,
    )
    batched = groups.batch(
        shape.per_batch_size // group, drop_remainder=True, num_parallel_workers=1
    )
    iterator = batched.create_tuple_iterator(num_epochs=1)
    failure = None
    try:
        for number, _ in enumerate(iterator):
            *batch, notes = ring.take(number)
            report(notes)
            yield tuple(ms.Tensor.from_numpy(column) for column in batch)
    except RuntimeError as error:
        failure = str(
            error
        )  # the exception itself would keep its frames alive, and with them the processes
    finally:
        ring.close()
        iterator.stop()
        del iterator
    if failure is not None:
        raise RuntimeError(failure)


class TrainStream:
    """Micro-batches of a training, the same for any number of workers and any start.

    Position k x world_size + rank of an epoch's order is sample k of a device; what does not fill a micro-batch on
    every device is left out of the epoch.
    """

    def __init__(
        self,
        samples: TrainSamples | ClassTrainSamples,
        assign: Targets,
        per_batch_size: int,
        num_workers: int | None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.samples, self.per_batch_size, self.rank, self.world_size = (
            samples,
            per_batch_size,
            rank,
            world_size,
        )
        self.steps_per_epoch = len(samples) // (per_batch_size * world_size)
        self._assign = assign
        self._workers = worker_count(num_workers, world_size)
        self._counts: Counter[str] = Counter()
        self._unreadable: Counter[str] = Counter()
        if self.steps_per_epoch == 0:
            raise UserError(
                "train.per_batch_size",
                "one batch a device needs more images than the training split has",
                got=f"{per_batch_size} x {world_size} devices",
                expected=f"at most {len(samples)} in all",
            )

    def batches(self, start: int, stop: int) -> Iterator[tuple[ms.Tensor, ...]]:
        """Yield micro-batches number start .. stop - 1, counted from the beginning of the training.

        Element 0 is the images, uint8 (B, 3, S, S); then what `assign` returns, batched. Raises UserError when no image
        can be read; RuntimeError with the worker's traceback, image files, seed, epoch and index when a sample fails.
        """
        tables = (*self._assign(*self.samples.no_targets), _pack_notes(SampleNotes()))
        shape = _Shape(tables, self.per_batch_size, self.samples.data.img_size, self._workers)
        stride = max(1, ROWS_PER_PIPELINE // self.per_batch_size)
        for first in range(start, stop, stride):
            length = (min(stop, first + stride) - first) * self.per_batch_size
            source = _TrainSource(self, self._assign, first * self.per_batch_size, length)
            try:
                yield from _batches(source, shape, self._note)
            except RuntimeError as error:
                if NO_IMAGE_MARK in str(error):
                    raise NoReadableImageError(
                        self.samples.source, self.samples.table.path(0)
                    ) from error
                raise

    def report(self) -> dict[str, Any]:
        """Return the counts since the start: samples, truths_dropped, unreadable {path: attempts}."""
        counts = {
            name: self._counts[name] for name in ("samples", "truths_dropped", "unreadable_unnamed")
        }
        return {**counts, "unreadable": dict(self._unreadable)}

    def _note(self, notes: NDArray[np.int64]) -> None:
        """Add up the notes (B, 2 + NAMED_IMAGES) of one batch."""
        named = notes[:, 2:][notes[:, 2:] >= 0]
        self._counts["samples"] += len(notes)
        self._counts["truths_dropped"] += int(notes[:, 0].sum())
        self._counts["unreadable_unnamed"] += int(notes[:, 1].sum()) - len(named)
        for path in (str(self.samples.table.path(int(image))) for image in named):
            if path not in self._unreadable:
                logger.warning("%s: could not be decoded; the next image takes its place", path)
            self._unreadable[path] += 1


class _EvalSource:
    """Test images of one device in order, then grey padding; the notes are [record index or -1, unreadable]."""

    def __init__(
        self, images: TruthTable | ClassImages, data: DataConfig, indices: NDArray[np.int64]
    ):
        self._images, self._data, self._indices = images, data, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, row: int) -> Row:
        index, data = int(self._indices[row]), self._data
        image, unreadable = grey_image(data.img_size, data.pad_value), False
        if index >= 0:
            try:
                image = fit_image(
                    decode_image(self._images.encoded(index), self._images.path(index)), data
                )
            except ImageReadError:
                unreadable = True
        return image, np.array([index, unreadable], np.int64)


class EvalStream:
    """Every image of a split once, in batches of one size; device r has images r, r + world_size, ..."""

    def __init__(
        self,
        dataset: Dataset | ClassImages,
        data: DataConfig,
        per_batch_size: int,
        num_workers: int | None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self._images = dataset if isinstance(dataset, ClassImages) else TruthTable(dataset.records)
        self._data, self._per_batch_size = data, per_batch_size
        self._workers = worker_count(num_workers, world_size)
        share = -(-len(self._images) // world_size)
        own = np.arange(rank, len(self._images), world_size)
        padded = -(-share // per_batch_size) * per_batch_size  # equal on all devices
        self._indices = np.concatenate([own, np.full(padded - len(own), -1)]).astype(np.int64)
        self._unreadable: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._indices) // self._per_batch_size

    def batches(self) -> Iterator[tuple[ms.Tensor, NDArray[np.int64]]]:
        """Yield images, uint8 (B, 3, S, S), and the record indices (n,) of the first n of them; the rest is padding."""
        if len(self._indices) == 0:
            return
        rows: list[NDArray[np.int64]] = []
        source = _EvalSource(self._images, self._data, self._indices)
        shape = _Shape(
            (np.zeros(2, np.int64),), self._per_batch_size, self._data.img_size, self._workers
        )
        for (images,) in _batches(source, shape, rows.append):
            indices, unreadable = rows.pop().T
            self._unreadable.update(
                {str(self._images.path(int(index))): 1 for index in indices[unreadable == 1]}
            )
            yield images, indices[indices >= 0]

    def report(self) -> dict[str, Any]:
        """Return {"unreadable": {path: 1}}: images that were given to the network as plain grey."""
        return {"unreadable": dict(self._unreadable)}

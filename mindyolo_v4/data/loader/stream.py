"""Batches of training images, made in worker processes that MindData starts.

    batch numbers      worker process 0:  row, row, ... -> batch 0, 2, 4, ... --queue--+
    start .. stop  ->                                                                  +-> Tensors
      (MindData)       worker process 1:  row, row, ... -> batch 1, 3, 5, ... --queue--+

A row is one image with its tables: `TrainStream._row` makes it from a number.
A worker stacks the rows of one whole batch, so MindData hands on few, large pieces, in the order
of their numbers. The last column of a batch holds notes (what could not be read, and how many
ground-truth boxes did not fit), which this process counts and takes off.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from traceback import format_exc
from typing import Any, Protocol

import cv2
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import psutil
from numpy.typing import NDArray

from mindyolo_v4 import environment
from mindyolo_v4.data.images import channels_first
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.loader.epoch import NoReadableImageError, SampleNotes
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)

Row = tuple[np.ndarray, ...]
Targets = Callable[..., Row]  # what a sample's `targets()` returns -> arrays

NAMED_IMAGES = 16  # unreadable images that one sample's notes can name
NOTHING_READABLE = -1  # in place of the number of unreadable images
PREFETCH_BYTES = 96 * 2**20  # that waiting images take at most (one batch per worker always fits)
KEPT_BYTES = 31 * 2**20  # a little less than the largest block that glibc adapts to
# MindData lists all batch numbers at once; a long training is cut into pipelines
BATCHES_PER_PIPELINE = 2**18


class Ranks(Protocol):
    """Which of how many devices this process serves."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class _OneDevice:
    rank: int = 0
    size: int = 1


ONE_DEVICE = _OneDevice()


def worker_count(num_workers: int | None, devices: int) -> int:
    """Return the worker processes per device: as configured, else its share of the cores, 1 to 8.

    MindData accepts at most as many as the machine has cores. Several need shared memory.
    """
    share = environment.cores_of_process(devices)
    count = min(num_workers or max(1, min(8, share)), os.cpu_count() or 1)
    if count > 1 and _shared_memory_bytes() < count * 2**17:
        logger.warning("/dev/shm is full or missing: one thread reads the images, not %d", count)
        return 1
    return count


def _shared_memory_bytes() -> int:
    """Return the free shared memory."""
    try:
        return psutil.disk_usage("/dev/shm").free
    except OSError:
        return 0


def prefetch_size(batch_bytes: int, workers: int) -> int:
    """Return how many finished batches may wait in the queue of a worker, 1 to 4."""
    return max(1, min(4, PREFETCH_BYTES // (batch_bytes * workers)))


@lru_cache(maxsize=1)
def _keep_freed_memory(process: int) -> None:
    """Let this process (its id; once is enough) reuse the memory of freed images.

    glibc returns it to the system at once, and every large array then pays for new pages. It keeps
    twice the size of the largest block that was ever mapped and freed (mallopt(3),
    M_MMAP_THRESHOLD), so one such block is made and dropped; its pages are never touched. jemalloc,
    which MindSpore 2.7 and 2.8 bring for CPUs, does not need it.
    """
    np.empty(KEPT_BYTES, np.uint8)


class _Batches:
    """Batches by number, as GeneratorDataset asks for them in a worker."""

    def __init__(self, make_row: Callable[[int], Row], per_batch_size: int, start: int, stop: int):
        self.per_batch_size = per_batch_size
        self._make_row = make_row
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, number: int) -> Row:
        _keep_freed_memory(os.getpid())
        first = (self._start + int(number)) * self.per_batch_size
        rows = [self._make_row(row) for row in range(first, first + self.per_batch_size)]
        return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _run(batches: _Batches, columns: int, workers: int, img_size: int) -> Iterator[list[ms.Tensor]]:
    """Run one pipeline to its end; its processes end with it, however it is left."""
    # The workers are the parallelism. OpenCV's threads would not survive the fork: a worker that
    # inherits them waits forever.
    cv2.setNumThreads(1)
    batch_bytes = batches.per_batch_size * 3 * img_size**2
    prefetch = prefetch_size(batch_bytes, workers)
    # a container has 64 MB of shared memory unless told otherwise; without it, pipes carry batches
    needed = 2 * workers * (prefetch + 2) * batch_bytes
    memory = {"max_rowsize": 0} if needed > _shared_memory_bytes() else {}
    ds.config.set_prefetch_size(prefetch)
    dataset = ds.GeneratorDataset(
        batches,
        [f"column{number}" for number in range(columns)],
        shuffle=False,
        num_parallel_workers=workers,
        python_multiprocessing=workers > 1,
        **memory,
    )
    iterator = dataset.create_tuple_iterator(num_epochs=1)
    failure = None
    try:
        yield from iterator
    except RuntimeError as error:
        # the exception itself would keep its frames alive, and with them the processes
        failure = str(error)
    finally:
        iterator.stop()
        del iterator
    if failure is not None:
        raise RuntimeError(failure)


class TrainStream:
    """Micro-batches of a training, the same for any number of workers and any start.

    Position k x size + rank of an epoch's order is sample k of a device; what does not fill a
    micro-batch on every device is left out of the epoch.
    """

    def __init__(
        self,
        samples: TrainSamples | ClassTrainSamples,
        assign: Targets,
        per_batch_size: int,
        num_workers: int | None,
        ranks: Ranks = ONE_DEVICE,
    ):
        self.samples = samples
        self.steps_per_epoch = len(samples) // (per_batch_size * ranks.size)
        self._assign = assign
        self._per_batch_size = per_batch_size
        self._ranks = ranks
        self._workers = worker_count(num_workers, ranks.size)
        self._counts: Counter[str] = Counter()
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

        Element 0 is the images, uint8 (B, 3, S, S); then what `assign` returns, batched.

        Raises:
            UserError: no image can be read.
            RuntimeError: a sample failed; the message has the worker's traceback, the image files,
                seed, epoch and index.
        """
        columns = len(self._row_without_image())
        size = self.samples.data.img_size
        for first in range(start, stop, BATCHES_PER_PIPELINE):
            last = min(stop, first + BATCHES_PER_PIPELINE)
            numbers = _Batches(self._row, self._per_batch_size, first, last)
            with closing(_run(numbers, columns, self._workers, size)) as pipeline:
                for *batch, notes in pipeline:
                    self._note(notes.asnumpy())
                    yield tuple(batch)

    def report(self) -> dict[str, Any]:
        """Return the counts so far: samples, truths_dropped, unreadable {path: attempts} ..."""
        names = ("samples", "truths_dropped", "unreadable_unnamed")
        counts = {name: self._counts[name] for name in names}
        return {**counts, "unreadable": dict(self._unreadable)}

    def _row(self, number: int) -> Row:
        """Make row `number` of this device, counted from the start of the training."""
        epoch, position = divmod(number, self.steps_per_epoch * self._per_batch_size)
        index = position * self._ranks.size + self._ranks.rank
        try:
            sample, notes = self.samples.sample_with_notes(epoch, index)
            tables = self._assign(*sample.targets())
        except NoReadableImageError:
            return self._row_without_image()
        except Exception as error:
            # MindData makes the exception anew from one string (which not every class can be made
            # of), and keeps what follows the last "Traceback" in it
            own = self.samples.own_path(epoch, index)
            where = f"seed {self.samples.seed}, epoch {epoch}, index {index}"
            raise RuntimeError(f"{format_exc()}in the sample of {own} ({where})") from error
        return channels_first(sample.image), *tables, _pack_notes(notes)

    def _row_without_image(self) -> Row:
        """Return the row that tells that no image can be read."""
        size = self.samples.data.img_size
        notes = _pack_notes(SampleNotes())
        notes[1] = NOTHING_READABLE
        tables = self._assign(*self.samples.no_targets)
        return np.zeros((3, size, size), np.uint8), *tables, notes

    def _note(self, notes: NDArray[np.int64]) -> None:
        """Add up the notes (B, 2 + NAMED_IMAGES) of one batch."""
        files = self.samples.files
        if (notes[:, 1] == NOTHING_READABLE).any():
            raise NoReadableImageError(self.samples.source, files.path(0))
        named = notes[:, 2:][notes[:, 2:] >= 0]
        self._counts["samples"] += len(notes)
        self._counts["truths_dropped"] += int(notes[:, 0].sum())
        self._counts["unreadable_unnamed"] += int(notes[:, 1].sum()) - len(named)
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

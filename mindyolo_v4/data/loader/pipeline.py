"""Batches made of rows in worker processes that MindData starts.

    batch numbers      worker process 0:  row, row, ... -> batch 0, 2, 4, ... --queue--+
    start .. stop  ->                                                                  +-> Tensors
      (MindData)       worker process 1:  row, row, ... -> batch 1, 3, 5, ... --queue--+

A worker stacks the rows of one whole batch, so MindData hands on few, large pieces, in the order
of their numbers. Batches may differ in the shape of their rows.
"""

import logging
import os
from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import psutil

from mindyolo_v4 import environment

logger = logging.getLogger(__name__)

Row = tuple[np.ndarray, ...]

PREFETCH_BYTES = 96 * 2**20  # that waiting images take at most (one batch per worker always fits)
KEPT_BYTES = 31 * 2**20  # a little less than the largest block that glibc adapts to


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


class RowBatches:
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


def run(
    batches: RowBatches, columns: int, workers: int, img_size: int
) -> Iterator[list[ms.Tensor]]:
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

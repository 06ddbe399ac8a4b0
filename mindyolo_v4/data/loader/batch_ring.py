"""Finished rows on their way from the loader processes to the training, in memory that all of them share.

MindData copies a row several times between a process and a batch, and its queues are as long for images as for numbers.
Here a row is written straight to its place in a batch, and MindData hands on no more than that it is there.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.images import Image
from mindyolo_v4.data.loader.shared_memory import shared_array

Column = NDArray[np.generic]

_POLL_S = 0.002
_CLOSED = 2**62


class BatchRing:
    """The next few batches; batch k + length takes the place of batch k when that was taken out.

    Made before the processes are forked. Each process writes its rows in ascending order, and all rows of a batch are
    written before it is taken.
    """

    def __init__(self, length: int, per_batch_size: int, img_size: int, tables: Sequence[Column]):
        """Reserve the memory.

        Args:
            length: batches.
            tables: what a row has besides its image; each gives a shape and a type.
        """
        self._length, self._per_batch_size = length, per_batch_size
        shape = (length, per_batch_size)
        self._images = shared_array((*shape, 3, img_size, img_size), np.uint8)
        self._tables = [shared_array((*shape, *table.shape), table.dtype) for table in tables]
        self._taken = multiprocessing.Value(
            "q", 0
        )  # batches; its lock orders the copies of all processes
        self._owner = os.getpid()

    def write(self, row: int, image: Image, tables: Sequence[Column]) -> None:
        """Put an image (S, S, 3), channels first, and its tables into their batch; wait while the ring is full."""
        batch, place = divmod(row, self._per_batch_size)
        while batch >= self._taken.value + self._length:
            if self._owner not in (os.getpid(), os.getppid()):
                return  # the training was killed; MindData's process ends itself after this row
            time.sleep(_POLL_S)
        slot = batch % self._length
        cv2.split(image, list(self._images[slot, place]))  # into the planes, without another copy
        for column, table in zip(self._tables, tables, strict=True):
            column[slot, place] = table

    def take(self, batch: int) -> list[Column]:
        """Return the images (B, 3, S, S) and tables (B, ...) of a batch, copies, and give its place free."""
        slot = batch % self._length
        columns = [column[slot].copy() for column in (self._images, *self._tables)]
        self._taken.value = batch + 1
        return columns

    def close(self) -> None:
        """Let no process wait any longer."""
        self._taken.value = _CLOSED

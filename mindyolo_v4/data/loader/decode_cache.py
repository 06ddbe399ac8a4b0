"""Decoded images that neighbouring samples share, in memory that all loader processes share.

A mosaic joins images that lie close together in the epoch's order, so several samples that are made
at about the same time need the same image. The first process decodes it, the others copy it.
"""

import math
import mmap
import multiprocessing
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindyolo_v4.data.images import Image

CACHE_BYTES = 256 * 2**20  # pixels that one training keeps at most; untouched memory costs nothing
SLOTS_PER_POSITION = 2  # of the partner window: loader processes are not at exactly the same sample
MOST_SLOTS = 1024  # each has a lock
LOCK_WAIT_S = 0.002  # less than a decode takes
_IMAGE, _HEIGHT, _WIDTH, _DECODES = range(4)  # columns of the table


class DecodeCache:
    """A ring of slots, each with one decoded image and a lock; made before the processes fork.

    What is read never depends on timing. A slot is read and written under its lock, and names the
    image that it holds. A process decodes for itself when it does not get the lock at once (another
    process copies, or was killed while it did), when the slot holds another image, or when the
    image is too large for a slot.
    """

    def __init__(self, slots: int, slot_bytes: int):
        """Reserve the memory.

        Args:
            slots: images that are kept, 0: none; fewer where they would exceed CACHE_BYTES or
                MOST_SLOTS.
            slot_bytes: size of the largest decoded image that is kept.
        """
        self.slots = min(slots, CACHE_BYTES // slot_bytes, MOST_SLOTS)
        self.slot_bytes = slot_bytes
        # at least one row, for its count of decodes; columns: image + 1 (0: none), height, width,
        # decodes
        self._table = _shared_zeros((max(1, self.slots), 4), np.int64)
        self._pixels = _shared_zeros((self.slots * self.slot_bytes,), np.uint8)
        self._locks = [multiprocessing.Lock() for _ in range(self.slots)]

    @property
    def decodes(self) -> int:
        """Return about how many images all processes have decoded (counted without a lock)."""
        return int(self._table[:, _DECODES].sum())

    def read(self, position: int, image: int, decode: Callable[[], Image]) -> Image:
        """Return an image (H, W, 3): a copy of what is kept, or what `decode` returns.

        Args:
            position: counted from the start of the training; neighbours have slots of their own.
            image: number that tells this image, and how it is decoded, from all others.
        """
        slot = position % self.slots if self.slots else 0
        pixels = self._load(slot, image) if self.slots else None
        if pixels is None:
            pixels = decode()
            self._table[slot, _DECODES] += 1
            if self.slots and pixels.nbytes <= self.slot_bytes:
                self._store(slot, image, pixels)
        return pixels

    def _load(self, slot: int, image: int) -> Image | None:
        if self._table[slot, _IMAGE] != image + 1:
            return None
        if not self._locks[slot].acquire(timeout=LOCK_WAIT_S):
            return None
        try:
            # the slot may have changed before this process got the lock
            held, height, width, _ = self._table[slot].tolist()
            return self._slot(slot, height, width).copy() if held == image + 1 else None
        finally:
            self._locks[slot].release()

    def _store(self, slot: int, image: int, pixels: Image) -> None:
        height, width = pixels.shape[:2]
        if not self._locks[slot].acquire(block=False):
            return
        try:
            self._table[slot, _IMAGE] = 0  # no image, should this process be killed while it copies
            self._slot(slot, height, width)[:] = pixels
            self._table[slot, : _WIDTH + 1] = image + 1, height, width
        finally:
            self._locks[slot].release()

    def _slot(self, slot: int, height: int, width: int) -> Image:
        start = slot * self.slot_bytes
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)


def slot_bytes(sizes_wh_px: NDArray[np.integer], slots: int) -> int:
    """Return the size of the largest decoded image (N, 2) that is worth its memory.

    All images where that many slots fit into CACHE_BYTES; else those that 95 of 100 do not exceed.
    """
    areas = sizes_wh_px.prod(axis=1)
    usual = int(np.quantile(areas, 0.95, method="higher"))
    return min(3 * int(areas.max()), max(3 * usual, CACHE_BYTES // max(1, slots)))


def _shared_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return zeros that processes forked from now on share with this one."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, max(1, size))  # zero bytes cannot be mapped
    return np.frombuffer(memory, np.uint8)[:size].view(dtype).reshape(shape)

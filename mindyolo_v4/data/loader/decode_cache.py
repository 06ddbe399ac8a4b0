"""Decoded images that neighbouring samples share, in memory that a training's loader processes have in common.

A mosaic joins images that lie close together in the epoch's order, so several samples that are made at about the same
time need the same image. It is decoded by the first and copied by the others, in whatever process they are made.
"""

import multiprocessing
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.images import Image
from mindyolo_v4.data.loader.shared_memory import shared_array

CACHE_BYTES = (
    256 * 2**20
)  # pixels that one training keeps at most; memory that no image has touched costs nothing
SLOTS_PER_POSITION = 2  # of the partner window: loader processes are not at exactly the same sample
MOST_SLOTS = 1024  # each has a lock
LOCK_WAIT_S = 0.002  # less than a decode takes
_IMAGE, _HEIGHT, _WIDTH, _DECODES = range(4)  # columns of the table


class DecodeCache:
    """A ring of slots, each with one decoded image and a lock; made before the processes are forked.

    What is read never depends on timing. A slot is read and written under its lock, and tells which image it holds. Who
    does not get the lock at once (another process copies, or was killed while it did), finds another image, or has an
    image that is too large for a slot, decodes for itself.
    """

    def __init__(self, slots: int, slot_bytes: int):
        """Reserve the memory.

        Args:
            slots: images that are kept, 0: none; fewer where they would exceed CACHE_BYTES or MOST_SLOTS.
            slot_bytes: size of the largest decoded image that is kept.
        """
        self.slots, self.slot_bytes = min(slots, CACHE_BYTES // slot_bytes, MOST_SLOTS), slot_bytes
        # One row at least, for its count of decodes: image + 1 (0: none), height, width, decodes.
        self._table = shared_array((max(1, self.slots), 4), np.int64)
        self._pixels = shared_array((self.slots * self.slot_bytes,), np.uint8)
        self._locks = [multiprocessing.Lock() for _ in range(self.slots)]

    @property
    def decodes(self) -> int:
        """Return about how many images were decoded, by all processes together (counted without a lock)."""
        return int(self._table[:, _DECODES].sum())

    def read(self, place: int, image: int, decode: Callable[[], Image]) -> Image:
        """Return the pixels (H, W, 3) of an image: a copy of what is kept, or what `decode` returns, which is kept.

        Args:
            place: position counted from the start of the training; neighbours have slots of their own.
            image: number that tells this image, and how it is decoded, from all others.
        """
        slot = place % self.slots if self.slots else 0
        pixels = self._load(slot, image) if self.slots else None
        if pixels is None:
            pixels = decode()
            self._table[slot, _DECODES] += 1
            if self.slots and pixels.nbytes <= self.slot_bytes:
                self._store(slot, image, pixels)
        return pixels

    def _load(self, slot: int, image: int) -> Image | None:
        if self._table[slot, _IMAGE] != image + 1 or not self._locks[slot].acquire(
            timeout=LOCK_WAIT_S
        ):
            return None
        try:
            held, height, width, _ = self._table[
                slot
            ].tolist()  # it may have changed before the lock was had
            return self._slot(slot, height, width).copy() if held == image + 1 else None
        finally:
            self._locks[slot].release()

    def _store(self, slot: int, image: int, pixels: Image) -> None:
        height, width = pixels.shape[:2]
        if not self._locks[slot].acquire(block=False):
            return
        try:
            self._table[slot, _IMAGE] = (
                0  # until the pixels are there, should this process be killed
            )
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

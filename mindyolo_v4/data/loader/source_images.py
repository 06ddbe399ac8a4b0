"""The images of a training split: decoded no larger than the samples need them, kept while neighbours need them."""

import math

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.images import REDUCTIONS, Image, decode_image
from mindyolo_v4.data.loader.decode_cache import SLOTS_PER_POSITION, DecodeCache, slot_bytes
from mindyolo_v4.data.sample import TruthTable


class SourceImages:
    """Decoded images by number; what is returned is a function of the file and the configuration only."""

    def __init__(self, table: TruthTable, data: DataConfig):
        self._table = table
        self._factors = np.where(table.are_jpeg, reductions(table.sizes_wh_px, data), 1)
        self._decoded_wh_px = -(
            -table.sizes_wh_px // self._factors[:, None]
        )  # rounded up, as the decoder does
        slots = SLOTS_PER_POSITION * data.augment.partner_window if _joins(data.augment) else 0
        self.cache = DecodeCache(slots, slot_bytes(self._decoded_wh_px, slots))

    def read(self, place: int, image: int) -> tuple[Image, tuple[int, int] | None]:
        """Return the pixels of an image, and its original width and height where they are reduced.

        Args:
            place: position counted from the start of the training, see DecodeCache.

        Raises ImageReadError when it cannot be decoded.
        """
        pixels = self.cache.read(place, image, lambda: self._decode(image))
        width, height = self._table.sizes_wh_px[image].tolist()
        is_reduced = self._factors[image] > 1 and pixels.shape[:2] != (height, width)
        return pixels, (width, height) if is_reduced else None

    def _decode(self, image: int) -> Image:
        path, encoded = self._table.path(image), self._table.encoded(image)
        pixels = decode_image(encoded, path, int(self._factors[image]))
        width, height = self._decoded_wh_px[image]
        # a file of another size or format than when the split was read is not reduced
        return pixels if pixels.shape[:2] == (height, width) else decode_image(encoded, path)


def reductions(sizes_wh_px: NDArray[np.integer], data: DataConfig) -> NDArray[np.int64]:
    """Return by what factor (N,) images of these sizes (N, 2) may be reduced: 8, 4, 2 or 1.

    A reduced image still has as many pixels as the output where the augmentation zooms in most, so that nothing is ever
    enlarged that would not have been anyway; the rest of the way is interpolated as usual.
    """
    augment = data.augment
    if augment.perspective:  # which has no useful largest zoom
        return np.ones(len(sizes_wh_px), np.int64)
    zoom = (
        (1 + augment.scale) * (1 + math.tan(math.radians(augment.shear))) / (1 - 2 * augment.jitter)
    )
    both_sides_fill = data.resize == "stretch" or augment.jitter > 0 or augment.mosaic == "darknet"
    fitted = sizes_wh_px.min(axis=1) if both_sides_fill else sizes_wh_px.max(axis=1)
    factors = np.array(REDUCTIONS)
    return factors[(fitted[:, None] >= factors[1:] * data.img_size * zoom).sum(axis=1)]


def _joins(augment: AugmentConfig) -> bool:
    """Tell whether a sample may be made of several images."""
    return (augment.mosaic != "none" and augment.mosaic_prob > 0) or augment.mixup_prob > 0

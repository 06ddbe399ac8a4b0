"""The images of a training split, decoded no larger than needed and kept for their neighbours."""

import math

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.images import REDUCTIONS, Image, decode_image
from mindyolo_v4.data.loader.decode_cache import SLOTS_PER_POSITION, DecodeCache, slot_bytes
from mindyolo_v4.data.records import Records

# pixels (H, W, 3), and the original width and height where the pixels are reduced
SourcePixels = tuple[Image, tuple[int, int] | None]


class SourceImages:
    """Decoded images by number, each a function of its file and the configuration only."""

    def __init__(self, records: Records, data: DataConfig):
        self._records = records
        self._max_megapixels = data.max_megapixels
        self._factors = np.where(records.are_jpeg(), reductions(records.sizes_wh_px, data), 1)
        # rounded up, as the decoder does
        self._decoded_wh_px = -(-records.sizes_wh_px // self._factors[:, None])
        augment = data.augment
        has_mosaic = augment.mosaic != "none" and augment.mosaic_prob > 0
        joins = max(augment.mixup_prob, augment.cutmix_prob, augment.copy_paste_prob) > 0
        is_shared = has_mosaic or joins
        slots = SLOTS_PER_POSITION * augment.partner_window if is_shared else 0
        self.cache = DecodeCache(slots, slot_bytes(self._decoded_wh_px, slots))

    def read(self, position: int, image: int) -> SourcePixels:
        """Return an image; `position` counts from the start of the training, see DecodeCache.

        Raises ImageReadError when it cannot be decoded.
        """
        pixels = self.cache.read(position, image, lambda: self._decode(image))
        width, height = self._records.sizes_wh_px[image].tolist()
        is_reduced = self._factors[image] > 1 and pixels.shape[:2] != (height, width)
        return pixels, (width, height) if is_reduced else None

    def _decode(self, image: int) -> Image:
        path = self._records.path(image)
        encoded = self._records.encoded(image)
        pixels = decode_image(encoded, path, int(self._factors[image]), self._max_megapixels)
        width, height = self._decoded_wh_px[image]
        # a file of another size or format than when the split was read is not reduced
        return (
            pixels
            if pixels.shape[:2] == (height, width)
            else decode_image(encoded, path, max_megapixels=self._max_megapixels)
        )


def reductions(sizes_wh_px: NDArray[np.integer], data: DataConfig) -> NDArray[np.int64]:
    """Return by what factor (N,) images of these sizes (N, 2) may be reduced: 8, 4, 2 or 1.

    A reduced image still has as many pixels as the output where the augmentation zooms in most. So
    nothing is enlarged that would not have been anyway.
    """
    augment = data.augment
    if augment.perspective:  # which has no useful largest zoom
        return np.ones(len(sizes_wh_px), np.int64)
    zoom = (1 + augment.scale) * (1 + math.tan(math.radians(augment.shear)))
    zoom /= 1 - 2 * augment.jitter
    both_sides_fill = data.resize == "stretch" or augment.jitter > 0 or augment.mosaic == "darknet"
    fitted = sizes_wh_px.min(axis=1) if both_sides_fill else sizes_wh_px.max(axis=1)
    factors = np.array(REDUCTIONS)
    return factors[(fitted[:, None] >= factors[1:] * data.img_size * zoom).sum(axis=1)]

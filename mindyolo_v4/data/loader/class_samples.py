"""The training samples of a classifier. What happens to an image, and in which order, reads in `_view`."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import ClassifyConfig, DataConfig
from mindyolo_v4.data.augment.class_crop import (
    color_jitter,
    cut_out,
    cutmix,
    draw_crop,
    draw_darknet_crop,
    mosaic,
    warp_onto_black,
)
from mindyolo_v4.data.augment.transforms import change_colours
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import Image, decode_image, keep_freed_memory
from mindyolo_v4.data.loader.decode_cache import CACHE_BYTES, SLOTS_PER_POSITION, DecodeCache
from mindyolo_v4.data.loader.samples import (
    NoReadableImageError,
    SampleNotes,
    epoch_permutation,
    partner_positions,
    read_or_next,
)
from mindyolo_v4.data.sample import ClassSample
from mindyolo_v4.errors import UserError

_IMAGES = {"none": 1, "cutmix": 2, "mosaic": 4}  # images that make one sample


class ClassTrainSamples:
    """All augmented samples of a training; each is a function of (seed, epoch, index) only."""

    def __init__(self, dataset: ClassImages, data: DataConfig, seed: int):
        self.table, self.source = dataset, dataset.source
        self.data, self.seed = data, seed
        self.classes_per_sample = {"none": 1, "cutmix": 2, "mosaic": 4, "both": 4}[
            data.classify.mix
        ]
        self.no_targets = (
            np.zeros(self.classes_per_sample, np.int32),
            np.zeros(self.classes_per_sample, np.float32),
        )
        if len(self.table) == 0:
            raise UserError(self.source, "no images to train on")
        slots = SLOTS_PER_POSITION * data.augment.partner_window
        is_mixed = data.classify.mix != "none" and data.classify.mix_prob > 0
        self.cache = DecodeCache(slots if is_mixed else 0, CACHE_BYTES // slots)

    def __len__(self) -> int:
        return len(self.table)

    def own_path(self, epoch: int, index: int) -> Path:
        """Return the file at position `index` of the epoch's order."""
        return self.table.path(int(epoch_permutation(self.seed, epoch, len(self))[index]))

    def sample_with_notes(self, epoch: int, index: int) -> tuple[ClassSample, SampleNotes]:
        """Return the sample at position `index` of the epoch's order, and which images could not be read.

        Raises NoReadableImageError when there is no image that can be read.
        """
        keep_freed_memory(os.getpid())
        rng = np.random.default_rng((self.seed, epoch, index))
        kind = draw_mix(rng, self.data.classify)
        window = self.data.augment.partner_window
        unreadable: list[int] = []
        views, ids = [], np.zeros(self.classes_per_sample, np.int32)
        for place, position in enumerate(
            partner_positions(self.seed, epoch, index, len(self), _IMAGES[kind], window)
        ):
            image, pixels = self._read(epoch, position, unreadable)
            views.append(_view(pixels, rng, self.data))
            ids[place] = self.table.class_ids[image]
        shares = np.zeros(self.classes_per_sample, np.float32)
        mixed, own_shares = _mix(kind, views, rng)
        shares[: len(own_shares)] = own_shares
        return ClassSample(mixed, ids, shares), SampleNotes(tuple(unreadable))

    def _read(self, epoch: int, position: int, unreadable: list[int]) -> tuple[int, Image]:
        order, table, first = (
            epoch_permutation(self.seed, epoch, len(self)),
            self.table,
            epoch * len(self),
        )

        def read(at: int, image: int) -> Image:
            return self.cache.read(
                first + at, image, lambda: decode_image(table.encoded(image), table.path(image))
            )

        found = read_or_next(order, position, read, unreadable)
        if found is None:
            raise NoReadableImageError(self.source, table.path(0))
        return found


def draw_mix(rng: np.random.Generator, settings: ClassifyConfig) -> str:
    """Draw what a sample is: "none" (one image), "cutmix" or "mosaic"."""
    if settings.mix == "none" or rng.random() >= settings.mix_prob:
        return "none"
    if settings.mix == "both":
        return "cutmix" if rng.random() < 0.5 else "mosaic"
    return settings.mix


def _view(image: Image, rng: np.random.Generator, data: DataConfig) -> Image:
    """Cut one image to S x S, mirror it and change its colours."""
    settings, augment, size = data.classify, data.augment, data.img_size
    height, width = image.shape[:2]
    if settings.crop == "darknet":
        matrix = draw_darknet_crop(rng, width, height, size, augment.degrees, settings)
        image = warp_onto_black(image, matrix, size)
    else:
        image = cut_out(image, draw_crop(rng, width, height, settings), size)
    if rng.random() < augment.flip_prob:
        image = cv2.flip(image, 1)
    if rng.random() < augment.flip_vertical_prob:
        image = cv2.flip(image, 0)
    image = change_colours(np.ascontiguousarray(image), rng, augment)
    return color_jitter(image, rng, settings.color_jitter)


def _mix(
    kind: str, views: list[Image], rng: np.random.Generator
) -> tuple[Image, NDArray[np.float32]]:
    if kind == "none":
        return views[0], np.ones(1, np.float32)
    return {"cutmix": cutmix, "mosaic": mosaic}[kind](views, rng)

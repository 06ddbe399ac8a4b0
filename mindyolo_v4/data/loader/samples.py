"""The training samples of an epoch. What happens to an image, and in which order, reads top to bottom in `_compose`."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.augment.geometry import (
    crop_matrix,
    draw_affine,
    draw_pads,
    fit_sample,
    grey,
    has_affine,
    mean_colour,
    resize_matrix,
    warp_sample,
)
from mindyolo_v4.data.augment.mixup import mixup
from mindyolo_v4.data.augment.mosaic import canvas_mosaic, darknet_mosaic
from mindyolo_v4.data.augment.transforms import (
    PixelTransforms,
    random_colours,
    random_flip_left_right,
    random_flip_top_bottom,
)
from mindyolo_v4.data.images import ImageReadError, keep_freed_memory
from mindyolo_v4.data.loader.source_images import SourceImages
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.data.sample import Sample, TruthTable, keep_largest
from mindyolo_v4.errors import UserError

Read = TypeVar("Read")

MOSAIC_IMAGES = 4
# numpy seeds a generator equally for (a, b) and (a, b, 0): a last word other than 0 keeps these streams apart
ORDER_STREAM, PARTNER_STREAM = 1, 2


@lru_cache(maxsize=2)
def epoch_permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order (length,) in which an epoch sees the images; read-only."""
    order = np.random.default_rng((seed, epoch, 0, ORDER_STREAM)).permutation(length)
    order.setflags(write=False)
    return order


def partner_positions(
    seed: int, epoch: int, index: int, length: int, count: int, window: int
) -> tuple[int, ...]:
    """Return `count` positions of the epoch's order: `index`, then others at most `window` positions from it.

    The others come from the `window` nearest positions (fewer where the data set is smaller), each at most once as long
    as there are enough of them.
    """
    span = min(window, length - 1)
    low = min(max(index - span // 2, 0), length - 1 - span)
    neighbours = [position for position in range(low, low + span + 1) if position != index] or [
        index
    ]
    rng = np.random.default_rng((seed, epoch, index, PARTNER_STREAM))
    chosen = rng.choice(len(neighbours), count - 1, replace=count - 1 > len(neighbours))
    return (index, *(neighbours[place] for place in chosen))


def partners(
    seed: int, epoch: int, index: int, length: int, count: int, window: int
) -> tuple[int, ...]:
    """Return the data set indices of the `count` images that join position `index` of an epoch, its own first."""
    order = epoch_permutation(seed, epoch, length)
    return tuple(
        int(order[place]) for place in partner_positions(seed, epoch, index, length, count, window)
    )


@dataclass(frozen=True)
class SampleNotes:
    """What went wrong in the making of a sample."""

    unreadable: tuple[
        int, ...
    ] = ()  # data set indices of images that could not be decoded, once per attempt
    truths_dropped: int = 0  # boxes beyond data.max_truths


class NoReadableImageError(UserError):
    """Report a data set of which not one image can be decoded."""

    def __init__(self, source: str, example: Path):
        super().__init__(
            source, "not one of its images can be read", got=f"{example} and all others"
        )


class TrainSamples:
    """All augmented samples of a training; each is a function of (seed, epoch, index) only."""

    def __init__(self, dataset: Dataset, data: DataConfig, seed: int, epochs: int):
        self.table = TruthTable(dataset.records)
        self.no_targets = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        self.source = dataset.source
        self.data, self.seed, self.epochs = data, seed, epochs
        self._pixel_transforms = PixelTransforms(data.augment.pixel_transforms)
        if len(self.table) == 0:
            raise UserError(self.source, "no images to train on")
        self.images = SourceImages(self.table, data)

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, epoch: int, index: int) -> Sample:
        """Return the sample (S x S image) at position `index` of the epoch's order."""
        return self.sample_with_notes(epoch, index)[0]

    def sample_with_notes(self, epoch: int, index: int) -> tuple[Sample, SampleNotes]:
        """Return `sample(epoch, index)` and what went wrong in its making.

        An exception carries a note with the image files, seed, epoch and index. Raises NoReadableImageError when there
        is no image that can be read.
        """
        keep_freed_memory(os.getpid())
        rng = np.random.default_rng((self.seed, epoch, index))
        augment = self.data.augment
        joined = augment if epoch < self.epochs - augment.mosaic_off_epochs else None
        is_mosaic = bool(joined and joined.mosaic != "none" and rng.random() < joined.mosaic_prob)
        is_mixup = bool(joined and rng.random() < joined.mixup_prob)
        count = (MOSAIC_IMAGES if is_mosaic else 1) * (2 if is_mixup else 1)
        positions = partner_positions(
            self.seed, epoch, index, len(self), count, augment.partner_window
        )
        used: list[int] = []
        unreadable: list[int] = []
        try:
            sources = [self._read(epoch, position, used, unreadable) for position in positions]
            sample = _compose(sources, is_mosaic, rng, self.data, self._pixel_transforms)
        except Exception as error:
            files = ", ".join(str(self.table.path(image)) for image in used)
            error.add_note(
                f"while making the sample of {files} (seed {self.seed}, epoch {epoch}, index {index})"
            )
            raise
        kept = keep_largest(sample, self.data.max_truths)
        return kept, SampleNotes(tuple(unreadable), len(sample.class_ids) - len(kept.class_ids))

    def own_path(self, epoch: int, index: int) -> Path:
        """Return the file at position `index` of the epoch's order."""
        return self.table.path(int(epoch_permutation(self.seed, epoch, len(self))[index]))

    def _read(self, epoch: int, position: int, used: list[int], unreadable: list[int]) -> Sample:
        """Read the image at a position, or the next one that can be read."""
        order = epoch_permutation(self.seed, epoch, len(self))
        first = epoch * len(self)
        found = read_or_next(
            order, position, lambda at, image: self.images.read(first + at, image), unreadable
        )
        if found is None:
            raise NoReadableImageError(self.source, self.table.path(0))
        image, (pixels, original_wh_px) = found
        used.append(image)
        return Sample(pixels, *self.table.truths(image), original_wh_px)


def read_or_next(
    order: NDArray[np.int64], position: int, read: Callable[[int, int], Read], unreadable: list[int]
) -> tuple[int, Read] | None:
    """Return the image at a position of an epoch's order, or the next one that can be read: its index, what was read.

    Indices that could not be read are added to `unreadable`; None when there is nothing left.

    Args:
        read: position, image -> what is returned of it.
    """
    for step in range(len(order)):
        at = (position + step) % len(order)
        image = int(order[at])
        try:
            return image, read(at, image)
        except ImageReadError:
            unreadable.append(image)
    return None


def _compose(
    sources: Sequence[Sample],
    is_mosaic: bool,
    rng: np.random.Generator,
    data: DataConfig,
    pixels: PixelTransforms,
) -> Sample:
    augment = data.augment
    has_own_colours = (
        is_mosaic and augment.mosaic == "darknet"
    )  # darknet mirrors and recolours each tile by itself
    bases = []
    for group in _groups(sources, MOSAIC_IMAGES if is_mosaic else 1):
        bases.append(_mosaic(group, rng, data) if is_mosaic else _single(group[0], rng, data))
    sample = bases[0] if len(bases) == 1 else mixup(bases[0], bases[1], rng, augment.mixup_beta)
    sample = pixels(sample, rng)
    if not has_own_colours:
        sample = random_colours(sample, rng, augment)
        sample = random_flip_left_right(sample, rng, augment)
    return random_flip_top_bottom(sample, rng, augment)


def _groups(sources: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    return [sources[start : start + size] for start in range(0, len(sources), size)]


def _mosaic(sources: Sequence[Sample], rng: np.random.Generator, data: DataConfig) -> Sample:
    if data.augment.mosaic == "canvas":
        return canvas_mosaic(sources, rng, data)
    sample = darknet_mosaic(sources, rng, data)
    return _affine(sample, rng, data) if has_affine(data.augment) else sample


def _affine(sample: Sample, rng: np.random.Generator, data: DataConfig) -> Sample:
    """Move an S x S sample at random within its canvas."""
    size = data.img_size
    return warp_sample(
        sample, draw_affine(rng, data.augment, size, size), size, grey(data.pad_value), data.augment
    )


def _single(sample: Sample, rng: np.random.Generator, data: DataConfig) -> Sample:
    """Crop by jitter where it is on, else fit by `data.resize`; then the affine move, in one resampling."""
    augment: AugmentConfig = data.augment
    size, fill = data.img_size, grey(data.pad_value)
    width, height = sample.wh_px
    if augment.jitter > 0:
        fit = crop_matrix(draw_pads(rng, augment.jitter, width, height), width, height, size)
        fill = mean_colour(sample.image)
    elif has_affine(augment):
        fit = resize_matrix(resize_geometry(data.resize, width, height, size))
    else:
        return fit_sample(sample, data)
    move = draw_affine(rng, augment, size, size) if has_affine(augment) else np.eye(3)
    return warp_sample(sample, move @ fit, size, fill, augment)

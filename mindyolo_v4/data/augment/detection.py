"""From decoded images to one training sample of a detector; `compose` reads top to bottom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.augment.geometry import (
    crop_matrix,
    draw_affine,
    draw_pads,
    fit_sample,
    has_affine,
    mean_colour,
    resize_matrix,
    warp_sample,
)
from mindyolo_v4.data.augment.mixup import mixup
from mindyolo_v4.data.augment.mosaic import canvas_mosaic, darknet_mosaic
from mindyolo_v4.data.augment.paste import copy_paste, cutmix, erase
from mindyolo_v4.data.augment.transforms import (
    PixelTransforms,
    change_colours,
    flip_left_right,
    flip_top_bottom,
    happens,
)
from mindyolo_v4.data.sample import Sample


@dataclass(frozen=True)
class Plan:
    """What a sample is made of.

    A single image or a mosaic, and a second one of these for mixup; then a single image each for
    CutMix and copy-paste.
    """

    is_mosaic: bool
    is_mixup: bool
    is_cutmix: bool = False
    is_copy_paste: bool = False

    @property
    def images_per_base(self) -> int:
        """Return the images of a mosaic, or 1."""
        return 4 if self.is_mosaic else 1

    @property
    def images_in_bases(self) -> int:
        """Return the images before CutMix and copy-paste."""
        return self.images_per_base * (2 if self.is_mixup else 1)

    @property
    def images(self) -> int:
        """Return the images in all."""
        return self.images_in_bases + self.is_cutmix + self.is_copy_paste


def draw_plan(rng: np.random.Generator, augment: AugmentConfig, may_join: bool) -> Plan:
    """Draw what a sample is made of; without `may_join` it is a single image."""
    if not may_join:
        return Plan(is_mosaic=False, is_mixup=False)
    is_mosaic = bool(augment.mosaic != "none" and rng.random() < augment.mosaic_prob)
    is_mixup = bool(rng.random() < augment.mixup_prob)
    is_cutmix = happens(rng, augment.cutmix_prob)
    is_copy_paste = happens(rng, augment.copy_paste_prob)
    return Plan(is_mosaic, is_mixup, is_cutmix, is_copy_paste)


def compose(
    sources: Sequence[Sample],
    plan: Plan,
    rng: np.random.Generator,
    data: DataConfig,
    pixel_transforms: PixelTransforms,
) -> Sample:
    """Make one S x S sample of the decoded images, `plan.images` of them."""
    augment = data.augment
    bases = []
    for start in range(0, plan.images_in_bases, plan.images_per_base):
        if plan.is_mosaic:
            bases.append(_mosaic(sources[start : start + plan.images_per_base], rng, data))
        else:
            bases.append(_single(sources[start], rng, data))
    sample = mixup(bases[0], bases[1], rng, augment.mixup_beta) if plan.is_mixup else bases[0]
    # darknet's mosaic has mirrored and recoloured each tile by itself
    is_done = plan.is_mosaic and augment.mosaic == "darknet"
    sample = _change_whole(sample, rng, augment, pixel_transforms, not is_done)

    others = [
        _change_whole(_single(source, rng, data), rng, augment, pixel_transforms)
        for source in sources[plan.images_in_bases :]
    ]
    if plan.is_cutmix:
        sample = cutmix(sample, others[0], rng, augment)
    if plan.is_copy_paste:
        sample = copy_paste(sample, others[-1], rng, augment)
    return erase(sample, rng, augment) if happens(rng, augment.erase_prob) else sample


def _change_whole(
    sample: Sample,
    rng: np.random.Generator,
    augment: AugmentConfig,
    pixel_transforms: PixelTransforms,
    colours_and_mirror: bool = True,
) -> Sample:
    """Change the pixels of the whole S x S image, and mirror it."""
    sample = pixel_transforms(sample, rng)
    if colours_and_mirror:
        sample = replace(sample, image=change_colours(sample.image, rng, augment))
        if rng.random() < augment.flip_prob:
            sample = flip_left_right(sample)
    return flip_top_bottom(sample) if rng.random() < augment.flip_vertical_prob else sample


def _mosaic(sources: Sequence[Sample], rng: np.random.Generator, data: DataConfig) -> Sample:
    if data.augment.mosaic == "canvas":
        return canvas_mosaic(sources, rng, data)
    sample = darknet_mosaic(sources, rng, data)
    if not has_affine(data.augment):
        return sample
    size = data.img_size
    move = draw_affine(rng, data.augment, size, size)
    return warp_sample(sample, move, size, (data.pad_value,) * 3, data.augment)


def _single(sample: Sample, rng: np.random.Generator, data: DataConfig) -> Sample:
    """Crop by jitter where it is on, else fit by `data.resize`; then move, in one resampling."""
    augment = data.augment
    size = data.img_size
    fill: tuple[int, ...] = (data.pad_value,) * 3
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

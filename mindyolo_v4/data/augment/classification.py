"""From decoded images to one training image of a classifier."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import AugmentConfig, ClassifyConfig, DataConfig
from mindyolo_v4.data.augment.class_crop import (
    color_jitter,
    cut_out,
    cutmix,
    draw_darknet_crop,
    mosaic,
    warp_onto_black,
)
from mindyolo_v4.data.augment.paste import erase_part
from mindyolo_v4.data.augment.rand_augment import rand_augment
from mindyolo_v4.data.augment.rectangles import draw_crop, draw_erased
from mindyolo_v4.data.augment.transforms import change_colours, happens
from mindyolo_v4.data.images import Image

IMAGES_PER_MIX = {"none": 1, "cutmix": 2, "mosaic": 4}


def most_images(settings: ClassifyConfig) -> int:
    """Return of how many images a sample is made at most."""
    return IMAGES_PER_MIX["mosaic" if settings.mix == "both" else settings.mix]


def draw_mix(rng: np.random.Generator, settings: ClassifyConfig) -> str:
    """Draw what a sample is: "none" (one image), "cutmix" or "mosaic"."""
    if settings.mix == "none" or rng.random() >= settings.mix_prob:
        return "none"
    if settings.mix == "both":
        return "cutmix" if rng.random() < 0.5 else "mosaic"
    return settings.mix


def view(image: Image, rng: np.random.Generator, data: DataConfig) -> Image:
    """Cut one image (H, W, 3) to S x S, mirror it, apply RandAugment and change its colours."""
    settings = data.classify
    augment = data.augment
    size = data.img_size
    height, width = image.shape[:2]
    if settings.crop == "darknet":
        matrix = draw_darknet_crop(rng, width, height, size, augment.degrees, settings)
        image = warp_onto_black(image, matrix, size)
    else:
        image = cut_out(image, draw_crop(rng, width, height, settings.area, settings.ratio), size)
    if rng.random() < augment.flip_prob:
        image = cv2.flip(image, 1)
    if rng.random() < augment.flip_vertical_prob:
        image = cv2.flip(image, 0)
    if settings.randaugment_ops > 0:
        magnitude = settings.randaugment_magnitude
        image = rand_augment(image, rng, settings.randaugment_ops, magnitude)
    image = change_colours(np.ascontiguousarray(image), rng, augment)
    return color_jitter(image, rng, settings.color_jitter)


def mix_views(
    kind: str, views: list[Image], rng: np.random.Generator
) -> tuple[Image, NDArray[np.float32]]:
    """Join the views (S, S, 3) into one image; return it and the share (M,) of each view."""
    if kind == "none":
        return views[0], np.ones(1, np.float32)
    return {"cutmix": cutmix, "mosaic": mosaic}[kind](views, rng)


def random_erase(image: Image, rng: np.random.Generator, augment: AugmentConfig) -> Image:
    """Fill a rectangle of an image (S, S, 3) with noise, with probability `erase_prob`."""
    if not happens(rng, augment.erase_prob):
        return image
    return erase_part(image, draw_erased(rng, image.shape[0]), rng)

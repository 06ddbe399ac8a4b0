"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few random operations of one strength.

Each of `data.classify.randaugment_ops` operations is one of fourteen, drawn with equal chances and
with replacement. All have the strength m = `data.classify.randaugment_magnitude` / 10, of which
each makes its own number; the ranges are those of AutoAugment (Cubuk et al. 2019,
arXiv:1805.09501). Operations with a direction (turn, shift, more or less) draw a sign. What
a turned or shifted image does not cover is grey, level 128.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from mindyolo_v4.data.augment.class_crop import (
    change_brightness,
    change_contrast,
    change_saturation,
    level_table,
)
from mindyolo_v4.data.augment.geometry import Matrix, draw_warped, rotation, shearing, translation
from mindyolo_v4.data.images import Image, grey_image

LARGEST_MAGNITUDE = 10.0
_FILL = 128  # grey level
_DEGREES = 30.0
_SHEAR = 0.3
_SHIFT = 150 / 331  # of the side: AutoAugment's pixels of an image of 331
_FACTOR = 0.9  # colour, contrast, brightness, sharpness: 1 - 0.9 to 1 + 0.9
_BITS = 4  # that posterize takes off 8
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # as in PIL's Sharpness

Operation = Callable[[Image, float], Image]  # image (S, S, 3), signed strength -1 to 1


def rand_augment(
    image: Image, rng: np.random.Generator, operations: int, magnitude: float
) -> Image:
    """Apply so many random operations of this magnitude, 0 to 10, to an image (S, S, 3)."""
    for _ in range(operations):
        operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        sign = 1 if rng.random() < 0.5 else -1
        image = operation(image, sign * magnitude / LARGEST_MAGNITUDE)
    return image


def identity(image: Image, strength: float) -> Image:
    """Change nothing."""
    return image


def auto_contrast(image: Image, strength: float) -> Image:
    """Stretch the levels of each channel to 0 to 255."""
    channels = [
        cv2.normalize(channel, None, 0, 255, cv2.NORM_MINMAX) if np.ptp(channel) else channel
        for channel in cv2.split(image)
    ]
    return cv2.merge(channels)


def equalize(image: Image, strength: float) -> Image:
    """Give each channel a flat histogram."""
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


def solarize(image: Image, strength: float) -> Image:
    """Invert the levels from 256 (1 - m) on."""
    levels = np.arange(256)
    return cv2.LUT(
        image, level_table(np.where(levels < 256 * (1 - abs(strength)), levels, 255 - levels))
    )


def posterize(image: Image, strength: float) -> Image:
    """Keep the 8 - round(4 m) highest bits of each level."""
    dropped = round(_BITS * abs(strength))
    return image >> dropped << dropped


def saturation(image: Image, strength: float) -> Image:
    """Multiply the distance to the pixel's own grey by 1 +- 0.9 m."""
    return change_saturation(image, 1 + _FACTOR * strength)


def contrast(image: Image, strength: float) -> Image:
    """Multiply the distance to the mean grey by 1 +- 0.9 m."""
    return change_contrast(image, 1 + _FACTOR * strength)


def brightness(image: Image, strength: float) -> Image:
    """Multiply the levels by 1 +- 0.9 m."""
    return change_brightness(image, 1 + _FACTOR * strength)


def sharpness(image: Image, strength: float) -> Image:
    """Multiply the distance to the smoothed image by 1 +- 0.9 m."""
    factor = 1 + _FACTOR * strength
    return cv2.addWeighted(image, factor, cv2.filter2D(image, -1, _SMOOTH), 1 - factor, 0.0)


def rotate(image: Image, strength: float) -> Image:
    """Turn by +- 30 m degrees about the centre."""
    return _moved(image, rotation(math.radians(_DEGREES * strength)))


def shear_x(image: Image, strength: float) -> Image:
    """Shift each row by +- 0.3 m times its distance from the middle row."""
    return _moved(image, shearing(_SHEAR * strength, 0.0))


def shear_y(image: Image, strength: float) -> Image:
    """Shift each column by +- 0.3 m times its distance from the middle column."""
    return _moved(image, shearing(0.0, _SHEAR * strength))


def translate_x(image: Image, strength: float) -> Image:
    """Shift by +- 150/331 m of the side to the right."""
    return _moved(image, translation(_SHIFT * strength * image.shape[1], 0.0))


def translate_y(image: Image, strength: float) -> Image:
    """Shift by +- 150/331 m of the side down."""
    return _moved(image, translation(0.0, _SHIFT * strength * image.shape[0]))


def _moved(image: Image, matrix: Matrix) -> Image:
    """Move an image (S, S, 3) by a matrix about its centre."""
    half = image.shape[0] / 2
    canvas = grey_image(image.shape[0], _FILL)
    draw_warped(canvas, image, translation(half, half) @ matrix @ translation(-half, -half))
    return canvas


OPERATIONS: tuple[Operation, ...] = (
    identity,
    auto_contrast,
    equalize,
    rotate,
    solarize,
    saturation,
    posterize,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)

"""Cuts, jitters and mixes the training images of a classifier, drawing from the given generator."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import ClassifyConfig
from mindyolo_v4.data.augment.geometry import Matrix, draw_warped, rotation, scaling, translation
from mindyolo_v4.data.augment.rectangles import Box, draw_cutmix
from mindyolo_v4.data.augment.transforms import rand_scale
from mindyolo_v4.data.images import Image, scale_image


def cut_out(image: Image, box: Box, size: int) -> Image:
    """Scale a part of the image (H, W, 3) to (S, S, 3)."""
    left, top, width, height = box
    return scale_image(image[top : top + height, left : left + width], size, size)


def draw_darknet_crop(
    rng: np.random.Generator,
    width: int,
    height: int,
    size: int,
    degrees: float,
    settings: ClassifyConfig,
) -> Matrix:
    """Draw darknet's random size, aspect, angle and position: a matrix from image to S x S pixels.

    With a = rand_scale(`aspect`) and r a whole number in `short_side_px` the zoom is
    s = r / min(h, a w) in y and s / a in x. The view is turned by U(-degrees, degrees) about the
    image's centre, after a shift that keeps it inside the unturned image where that is larger
    (AlexeyAB/darknet, image.c, random_augment_image).
    """
    shortest, longest = settings.short_side_px
    aspect = rand_scale(rng, settings.aspect)
    zoom = int(rng.integers(shortest, longest, endpoint=True)) / min(height, width * aspect)

    turn = rotation(-math.radians(rng.uniform(-degrees, degrees)))
    room_x = max(0.0, (width * zoom / aspect - size) / 2)
    room_y = max(0.0, (height * zoom - size) / 2)
    shift_x = rng.uniform(-room_x, room_x)
    shift_y = rng.uniform(-room_y, room_y)
    shift = translation(shift_x - size / 2, shift_y - size / 2)

    from_view = scaling(aspect / zoom, 1 / zoom) @ shift
    return np.asarray(np.linalg.inv(translation(width / 2, height / 2) @ turn @ from_view))


def warp_onto_black(image: Image, matrix: Matrix, size: int) -> Image:
    """Draw the moved image on a black (S, S, 3) canvas."""
    canvas = np.zeros((size, size, 3), np.uint8)
    draw_warped(canvas, image, matrix)
    return canvas


def color_jitter(image: Image, rng: np.random.Generator, strengths: tuple[float, ...]) -> Image:
    """Change brightness, contrast and saturation, each by a factor f = 1 + U(-strength, strength).

    In this order; each result is rounded and clipped to 0..255.
    """
    if not any(strengths):
        return image
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * strengths
    image = change_brightness(image, brightness)
    image = change_contrast(image, contrast)
    return change_saturation(image, saturation)


def change_brightness(image: Image, factor: float) -> Image:
    """Return x f."""
    return cv2.LUT(image, level_table(np.arange(256) * factor))


def change_contrast(image: Image, factor: float) -> Image:
    """Return m + (x - m) f with m the mean grey level of the image."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return cv2.LUT(image, level_table(mean + (np.arange(256) - mean) * factor))


def change_saturation(image: Image, factor: float) -> Image:
    """Return g + (x - g) f with g the pixel's own grey level."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0.0)


def level_table(levels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a look-up table (256,) of new levels, rounded and clipped to 0..255."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def cutmix(images: list[Image], rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Put a rectangle of the second image into the first, where it was; return the shares (2,)."""
    first, second = images
    size = first.shape[0]
    left, top, width, height = draw_cutmix(rng, size)
    mixed = first.copy()
    mixed[top : top + height, left : left + width] = second[top : top + height, left : left + width]
    share = width * height / size**2
    return mixed, np.array([1 - share, share], np.float32)


def mosaic(images: list[Image], rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Join the quarters of four images around a point U(0.2 S, 0.8 S); return the shares (4,).

    Each quarter stays where it was. Order: top left, top right, bottom left, bottom right
    (darknet's classifier mosaic).
    """
    size = images[0].shape[0]
    cut_x, cut_y = rng.integers(int(0.2 * size), int(0.8 * size), 2, endpoint=True).tolist()
    joined = images[0].copy()
    joined[:cut_y, cut_x:] = images[1][:cut_y, cut_x:]
    joined[cut_y:, :cut_x] = images[2][cut_y:, :cut_x]
    joined[cut_y:, cut_x:] = images[3][cut_y:, cut_x:]
    rest_x = size - cut_x
    rest_y = size - cut_y
    areas = [cut_x * cut_y, rest_x * cut_y, cut_x * rest_y, rest_x * rest_y]
    return joined, np.array(areas, np.float32) / np.float32(size**2)

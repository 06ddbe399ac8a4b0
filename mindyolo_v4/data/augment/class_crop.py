"""Cuts, jitters and mixes the training images of a classifier, drawing from the given generator."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import ClassifyConfig
from mindyolo_v4.data.augment.geometry import Matrix, draw_warped, scaling, translation
from mindyolo_v4.data.augment.transforms import rand_scale
from mindyolo_v4.data.images import Image, scale_image

ATTEMPTS = 10
Box = tuple[int, int, int, int]  # left, top, width, height in pixels


def draw_crop(rng: np.random.Generator, width: int, height: int, settings: ClassifyConfig) -> Box:
    """Draw a part of the image: area ~ U(`area`), log of width by height ~ U(log `ratio`).

    The position is uniform, the sides are rounded. After ten draws that do not fit, it is the
    largest centred part of a permitted ratio (Szegedy et al. 2015, Going deeper with convolutions,
    section 6; torchvision's RandomResizedCrop).
    """
    least, most = settings.area
    low, high = settings.ratio
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(least, most)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_width = round(math.sqrt(area * ratio))
        crop_height = round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height, endpoint=True))
            left = int(rng.integers(width - crop_width, endpoint=True))
            return left, top, crop_width, crop_height
    crop_width = width
    crop_height = height
    if width < low * height:
        crop_height = max(1, round(width / low))
    elif width > high * height:
        crop_width = max(1, round(height * high))
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


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

    angle = math.radians(rng.uniform(-degrees, degrees))
    cosine = math.cos(angle)
    sine = math.sin(angle)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])

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

    In this order: x f; m + (x - m) f with m the mean grey level of the image; g + (x - g) f with g
    the pixel's own grey level. Each is rounded and clipped to 0..255.
    """
    if not any(strengths):
        return image
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * strengths
    image = cv2.LUT(image, _table(np.arange(256) * brightness))
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    image = cv2.LUT(image, _table(mean + (np.arange(256) - mean) * contrast))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, grey, 1 - saturation, 0.0)


def _table(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def cutmix(images: list[Image], rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Put a rectangle of the second image into the first, where it was; return the shares (2,).

    The sides are whole numbers, uniform in 0.3 S to 0.8 S, the position uniform (darknet's form of
    Yun et al. 2019, CutMix).
    """
    first, second = images
    size = first.shape[0]
    sides = rng.integers(int(0.3 * size), int(0.8 * size), 2, endpoint=True)
    width, height = sides.tolist()
    left = int(rng.integers(size - width, endpoint=True))
    top = int(rng.integers(size - height, endpoint=True))
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

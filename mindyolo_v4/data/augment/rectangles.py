"""Random parts of an image: what is cropped, pasted or erased."""

import math

import numpy as np

ATTEMPTS = 10
Box = tuple[int, int, int, int]  # left, top, width, height in pixels


def draw_crop(
    rng: np.random.Generator,
    width: int,
    height: int,
    area: tuple[float, ...],
    ratio: tuple[float, ...],
) -> Box:
    """Draw a part of the image: share of the area ~ U(`area`), log of width by height ~ U(log
    `ratio`).

    The position is uniform, the sides are rounded. After ten draws that do not fit, it is the
    largest centred part of a permitted ratio (Szegedy et al. 2015, Going deeper with convolutions,
    section 6; torchvision's RandomResizedCrop).
    """
    least, most = area
    low, high = ratio
    for _ in range(ATTEMPTS):
        pixels = width * height * rng.uniform(least, most)
        shape = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_width = round(math.sqrt(pixels * shape))
        crop_height = round(math.sqrt(pixels / shape))
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


def draw_cutmix(rng: np.random.Generator, size: int) -> Box:
    """Draw the rectangle of CutMix in an image of S x S pixels.

    The sides are whole numbers, uniform in 0.3 S to 0.8 S, the position uniform (darknet's form of
    Yun et al. 2019, CutMix, which draws the area from U(0, 1) and keeps the image's proportions).
    """
    sides = rng.integers(int(0.3 * size), int(0.8 * size), 2, endpoint=True)
    width, height = sides.tolist()
    left = int(rng.integers(size - width, endpoint=True))
    top = int(rng.integers(size - height, endpoint=True))
    return left, top, width, height


def draw_erased(rng: np.random.Generator, size: int) -> Box:
    """Draw the rectangle of random erasing in an image of S x S pixels.

    Area 0.02 to 0.4 of the image, width by height 0.3 to 1 / 0.3 (Zhong et al. 2020, Random erasing
    data augmentation, arXiv:1708.04896). The logarithm of the ratio is uniform, as in torchvision;
    in the paper the ratio is.
    """
    return draw_crop(rng, size, size, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3))

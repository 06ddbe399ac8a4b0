"""Augmentations that leave geometry alone (colour, pixel transforms), and the two flips."""

import os
from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import AugmentConfig
from mindyolo_v4.data.images import Image
from mindyolo_v4.data.sample import Sample
from mindyolo_v4.errors import UserError

LookUp = NDArray[np.uint8]  # (256, 3): new hue, saturation and value of each old one


def flip_left_right(sample: Sample) -> Sample:
    """Mirror the image and its boxes about the vertical axis."""
    width = sample.image.shape[1]
    left, top, right, bottom = sample.boxes_xyxy_px.T
    boxes = np.stack([width - right, top, width - left, bottom], axis=1)
    return Sample(cv2.flip(sample.image, 1), boxes, sample.class_ids)


def flip_top_bottom(sample: Sample) -> Sample:
    """Mirror the image and its boxes about the horizontal axis."""
    height = sample.image.shape[0]
    left, top, right, bottom = sample.boxes_xyxy_px.T
    boxes = np.stack([left, height - bottom, right, height - top], axis=1)
    return Sample(cv2.flip(sample.image, 0), boxes, sample.class_ids)


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Tell whether something of this probability happens; what is off draws no number."""
    return probability > 0 and bool(rng.random() < probability)


def rand_scale(rng: np.random.Generator, largest: float) -> float:
    """Draw a factor from U(1, largest), inverted with probability 1/2 (darknet's `rand_scale`)."""
    factor = rng.uniform(1.0, largest)
    return factor if rng.random() < 0.5 else 1.0 / factor


def draw_gains(rng: np.random.Generator, augment: AugmentConfig) -> LookUp:
    """Draw the gains form: each of H, S and V times 1 + U(-g, g).

    The hue wraps around at 180 (2 degrees per level).
    """
    strengths = (augment.hue, augment.saturation, augment.value)
    gains = 1 + rng.uniform(-1, 1, 3) * strengths
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255)
    table[:, 0] = np.arange(256) * gains[0] % 180
    return table.astype(np.uint8)


def draw_darknet_colours(rng: np.random.Generator, augment: AugmentConfig) -> LookUp:
    """Draw darknet's form: H + 179 U(-hue, hue), S and V times `rand_scale`, clipped to 0..255.

    The hue does not wrap: the sum is clipped to 0..255 as an 8-bit number, and levels above 179
    count modulo 180 when the image is converted back.
    """
    saturation = rand_scale(rng, augment.saturation) if augment.saturation else 1.0
    value = rand_scale(rng, augment.value) if augment.value else 1.0
    hue = 179 * rng.uniform(-augment.hue, augment.hue)
    levels = np.arange(256)
    table = np.stack([levels + hue, levels * saturation, levels * value], axis=-1)
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)


def change_colours(image: Image, rng: np.random.Generator, augment: AugmentConfig) -> Image:
    """Change hue, saturation and value of an RGB image by one look-up table."""
    if not (augment.hue or augment.saturation or augment.value):
        return image
    draw = {"gains": draw_gains, "darknet": draw_darknet_colours}[augment.hsv]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    cv2.LUT(hsv, draw(rng, augment)[:, None, :], dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv)


class PixelTransforms:
    """Apply albumentations' pixel transforms, each with its probability, in the configured order.

    Raises UserError at construction for an unknown name.
    """

    def __init__(self, probabilities: Mapping[str, float]):
        self._compose = _build_compose(probabilities) if probabilities else None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with a changed image; what is drawn depends on `rng` alone."""
        if self._compose is None:
            return sample
        self._compose.set_random_seed(int(rng.integers(2**31)))
        return replace(sample, image=self._compose(image=sample.image)["image"])


def _build_compose(probabilities: Mapping[str, float]):  # type: ignore[no-untyped-def]
    # else the import asks the network for its newest version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations  # imported here because it is slow and most recipes do without

    constructors = {
        "Blur": lambda p: albumentations.Blur(p=p),
        "MedianBlur": lambda p: albumentations.MedianBlur(p=p),
        "ToGray": lambda p: albumentations.ToGray(p=p),
        "CLAHE": lambda p: albumentations.CLAHE(p=p),
        "RandomBrightnessContrast": lambda p: albumentations.RandomBrightnessContrast(p=p),
        "RandomGamma": lambda p: albumentations.RandomGamma(p=p),
        "ImageCompression": lambda p: albumentations.ImageCompression(quality_range=(75, 100), p=p),
    }
    transforms = []
    for name, probability in probabilities.items():
        if name not in constructors:
            key = f"data.augment.pixel_transforms.{name}"
            raise UserError(key, "unknown transform", expected=", ".join(sorted(constructors)))
        transforms.append(constructors[name](probability))
    return albumentations.Compose(transforms)

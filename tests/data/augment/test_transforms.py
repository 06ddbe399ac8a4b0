"""Colour and flips: hand-computed boxes and pixels, bounds of the draws, purity."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig
from mindyolo_v4.data.augment.transforms import (
    PixelTransforms,
    change_colours,
    draw_darknet_colours,
    draw_gains,
    flip_left_right,
    flip_top_bottom,
    rand_scale,
)
from mindyolo_v4.data.sample import Sample
from mindyolo_v4.errors import UserError

ALL_PIXEL = (
    "Blur",
    "MedianBlur",
    "ToGray",
    "CLAHE",
    "RandomBrightnessContrast",
    "RandomGamma",
    "ImageCompression",
)


@pytest.fixture
def sample(rng):
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Sample(image, np.array([[2, 3, 12, 9], [0, 0, 30, 20]], np.float32), np.array([4, 7]))


def test_flip_left_right_moves_boxes_and_pixels(sample):
    flipped = flip_left_right(sample)
    assert flipped.boxes_xyxy_px.tolist() == [[18, 3, 28, 9], [0, 0, 30, 20]]
    np.testing.assert_array_equal(flipped.image, sample.image[:, ::-1])
    assert flipped.class_ids.tolist() == [4, 7]


def test_flip_top_bottom_moves_boxes_and_pixels(sample):
    flipped = flip_top_bottom(sample)
    assert flipped.boxes_xyxy_px.tolist() == [[2, 11, 12, 17], [0, 0, 30, 20]]
    np.testing.assert_array_equal(flipped.image, sample.image[::-1])


def test_flip_of_no_boxes(sample):
    empty = Sample(sample.image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert flip_left_right(empty).boxes_xyxy_px.shape == (0, 4)


def test_gains_table_is_the_gain_of_each_channel():
    class Draws:  # hue x1.5, saturation x0.6, value x1.4
        def uniform(self, low, high, count):
            return np.array([0.5, -1.0, 1.0])

    table = draw_gains(Draws(), AugmentConfig(hue=1.0, saturation=0.4, value=0.4))
    assert table[100].tolist() == [150, 60, 140]
    assert table[150].tolist() == [45, 90, 210]  # 225 wraps to 45
    assert table[200].tolist() == [120, 120, 255]  # 300 - 180; 280 saturates


def test_darknet_table_saturates():
    class Draws:  # saturation 1.5 (not inverted), value 1/1.25 (inverted), hue + 17.9
        def __init__(self):
            self.numbers, self.coins = iter([1.5, 1.25, 0.1]), iter([0.1, 0.9])

        def uniform(self, low, high):
            return next(self.numbers)

        def random(self):
            return next(self.coins)

    table = draw_darknet_colours(
        Draws(), AugmentConfig(hsv="darknet", hue=0.1, saturation=1.5, value=1.5)
    )
    assert table[100].tolist() == [118, 150, 80]
    assert table[200].tolist() == [218, 255, 160]
    assert table[250].tolist() == [255, 255, 200]


def test_rand_scale_lies_within_its_bounds_on_both_sides(rng):
    draws = np.array([rand_scale(rng, 1.5) for _ in range(500)])
    assert 1 / 1.5 <= draws.min() < 0.75 and 1.35 < draws.max() <= 1.5
    assert 180 < (draws > 1).sum() < 320


def test_value_gain_darkens_a_grey_image_by_the_drawn_factor():
    augment = AugmentConfig(value=0.4)
    grey = np.full((4, 4, 3), 100, np.uint8)
    factor = 1 + np.random.default_rng(3).uniform(-1, 1, 3)[2] * 0.4
    changed = change_colours(grey, np.random.default_rng(3), augment)
    assert np.unique(changed).tolist() == [int(100 * factor)]


def test_colours_at_strength_zero_return_the_same_image(sample, rng):
    assert change_colours(sample.image, rng, AugmentConfig()) is sample.image


@pytest.mark.parametrize("hsv", ["gains", "darknet"])
def test_transforms_leave_their_input_alone(sample, hsv):
    augment = AugmentConfig(hsv=hsv, hue=0.1, saturation=1.5, value=1.5)
    before = sample.image.copy(), sample.boxes_xyxy_px.copy()
    changed = change_colours(sample.image, np.random.default_rng(1), augment)
    flip_left_right(sample)
    flip_top_bottom(sample)
    PixelTransforms(dict.fromkeys(ALL_PIXEL, 1.0))(sample, np.random.default_rng(1))
    np.testing.assert_array_equal(sample.image, before[0])
    np.testing.assert_array_equal(sample.boxes_xyxy_px, before[1])
    assert (changed != sample.image).any() and changed.dtype == np.uint8


def test_to_gray_makes_the_channels_equal(sample, rng):
    image = PixelTransforms({"ToGray": 1.0})(sample, rng).image
    assert image.shape == sample.image.shape
    np.testing.assert_allclose(
        image[..., 0], cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY), atol=1
    )
    assert (image == image[..., :1]).all()


def test_pixel_transforms_depend_on_the_generator_alone(sample):
    transform = PixelTransforms(dict.fromkeys(ALL_PIXEL, 0.5))
    first = [transform(sample, np.random.default_rng(seed)).image for seed in range(6)]
    again = [
        PixelTransforms(dict.fromkeys(ALL_PIXEL, 0.5))(sample, np.random.default_rng(5 - s)).image
        for s in range(6)
    ]
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((one != sample.image).any() for one in first)


def test_no_pixel_transforms_is_the_identity(sample, rng):
    assert PixelTransforms({})(sample, rng) is sample


def test_unknown_pixel_transform_names_the_known_ones():
    with pytest.raises(
        UserError, match=r"data.augment.pixel_transforms.Blurr: unknown transform .*Blur, CLAHE"
    ):
        PixelTransforms({"Blurr": 0.1})


def test_albumentations_is_loaded_only_where_a_transform_is_named():
    script = """
import sys
import numpy as np
from mindyolo_v4.data.augment.transforms import PixelTransforms
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.sample import Sample

sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
assert PixelTransforms({})(sample, np.random.default_rng(0)) is sample
assert "albumentations" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)

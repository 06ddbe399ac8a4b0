"""Random rectangles: hand-computed draws, and their ranges."""

import math

import numpy as np

from mindyolo_v4.data.augment.rectangles import draw_crop, draw_cutmix, draw_erased
from tests.support.script import Script

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)


def test_a_part_has_the_area_and_ratio_that_were_drawn():
    """A quarter of 100 x 100 at ratio 4: sqrt(2500 * 4) = 100 wide, 25 high; top 60, left 0."""
    rng = Script(0.25, math.log(4.0), 60, 0)
    assert draw_crop(rng, 100, 100, AREA, (0.25, 4.0)) == (0, 60, 100, 25)


def test_parts_stay_in_the_image_and_in_their_ranges(rng):
    areas, ratios = [], []
    for _ in range(400):
        left, top, width, height = draw_crop(rng, 160, 120, AREA, RATIO)
        assert min(left, top) >= 0 and left + width <= 160 and top + height <= 120
        areas.append(width * height / (160 * 120))
        ratios.append(width / height)
    assert 0.07 < min(areas) < 0.12 and 0.85 < max(areas) <= 1.0
    assert 0.72 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.38


def test_a_picture_too_long_falls_back_to_its_middle(rng):
    """300 x 10 cannot hold 0.9 of its area at ratio 4/3: 13 columns from (300 - 13) // 2 on."""
    assert draw_crop(rng, 300, 10, (0.9, 1.0), RATIO) == (143, 0, 13, 10)
    assert draw_crop(rng, 10, 300, (0.9, 1.0), RATIO) == (0, 143, 10, 13)


def test_cutmix_draws_sides_then_position():
    assert draw_cutmix(Script(5, 4, 3, 2), 10) == (3, 2, 5, 4)


def test_erased_parts_have_the_papers_ranges(rng):
    """Area 0.02 to 0.4, ratio 0.3 to 3.33 (both blurred by whole pixels); position uniform."""
    boxes = np.array([draw_erased(rng, 100) for _ in range(3000)])
    left, top, width, height = boxes.T
    area = width * height / 1e4
    ratio = width / height
    assert left.min() >= 0 and top.min() >= 0
    assert (left + width).max() <= 100 and (top + height).max() <= 100
    assert 0.018 < area.min() < 0.025 and 0.37 < area.max() < 0.405
    assert 0.28 < ratio.min() < 0.32 and 3.1 < ratio.max() < 3.5
    np.testing.assert_allclose(area.mean(), 0.21, atol=0.01)
    np.testing.assert_allclose((left + width / 2).mean(), 50, atol=1.5)

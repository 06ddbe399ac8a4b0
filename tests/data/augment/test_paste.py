"""What another image or noise covers: hand-computed pixels and boxes."""

import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig
from mindyolo_v4.data.augment.paste import (
    copy_paste,
    cutmix,
    erase,
    erase_part,
    show_part,
    visible_parts,
)
from mindyolo_v4.data.sample import Sample
from tests.support.script import Script

ANY = AugmentConfig()
HALF = AugmentConfig(min_visible=0.5)


def sample(level, boxes, class_ids, size=10):
    image = np.full((size, size, 3), level, np.uint8)
    return Sample(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64))


def region(left, top, right, bottom, size=10):
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


# ---------------------------------------------------------------- visible parts


def test_a_box_is_cut_to_the_enclosing_box_of_what_is_visible():
    """Columns 0 to 5 are visible. 4 x 4 from column 4 on: 2 of 4 columns. 8 x 2: 6 of 8."""
    boxes = np.array([[4, 2, 8, 6], [0, 0, 8, 2], [7, 7, 9, 9], [1, 1, 3, 3]], np.float32)
    visible = region(0, 0, 6, 10)
    cut, kept = visible_parts(boxes, visible, ANY)
    assert kept.tolist() == [True, True, False, True]
    assert cut[kept].tolist() == [[4, 2, 6, 6], [0, 0, 6, 2], [1, 1, 3, 3]]
    enough = AugmentConfig(min_visible=0.6)
    assert visible_parts(boxes, visible, enough)[1].tolist() == [False, True, False, True]


def test_a_hole_inside_cuts_nothing_and_counts():
    """36 of 64 pixels remain: 0.5625."""
    box = np.array([[1, 1, 9, 9]], np.float32)
    cut, kept = visible_parts(box, ~region(2, 3, 6, 10), HALF)
    assert cut.tolist() == [[1, 1, 9, 9]] and kept.all()
    assert not visible_parts(box, ~region(2, 3, 6, 10), AugmentConfig(min_visible=0.63))[1].any()


def test_fractions_of_a_pixel_stay():
    box = np.array([[2.25, 3.5, 6.75, 8.125]], np.float32)
    assert visible_parts(box, region(0, 0, 10, 10), ANY)[0].tolist() == box.tolist()
    assert visible_parts(box, region(0, 0, 5, 10), ANY)[0].tolist() == [[2.25, 3.5, 5, 8.125]]


def test_what_is_too_narrow_is_dropped():
    box = np.array([[2, 0, 6, 4]], np.float32)
    assert visible_parts(box, region(0, 0, 4, 10), AugmentConfig(min_box_px=2.0))[1].all()
    assert not visible_parts(box, region(0, 0, 3, 10), AugmentConfig(min_box_px=2.0))[1].any()


# ---------------------------------------------------------------- CutMix


def test_cutmix_in_numbers():
    """5 x 4 pixels from column 3, row 2 on.

    Of the first image's boxes, one lies under the rectangle, one loses its right half, one is far.
    Of the second's, one is outside, one loses its upper 2 of 4 rows.
    """
    first = sample(10, [[4, 3, 6, 5], [1, 2, 5, 6], [0, 8, 4, 10]], [1, 2, 3])
    second = sample(200, [[0, 0, 3, 3], [4, 0, 6, 4]], [4, 5])
    mixed = cutmix(first, second, Script(5, 4, 3, 2), ANY)
    assert (mixed.image[2:6, 3:8] == 200).all() and (mixed.image == 10).all(axis=2).sum() == 80
    assert mixed.boxes_xyxy_px.tolist() == [[1, 2, 3, 6], [0, 8, 4, 10], [4, 2, 6, 4]]
    assert mixed.class_ids.tolist() == [2, 3, 5]
    assert mixed.boxes_xyxy_px.dtype == np.float32 and mixed.class_ids.dtype == np.int64
    strict = cutmix(first, second, Script(5, 4, 3, 2), AugmentConfig(min_visible=0.6))
    assert strict.class_ids.tolist() == [3]


# ---------------------------------------------------------------- copy-paste


class Chosen:
    """A generator that chooses the boxes of a list."""

    def __init__(self, *chosen):
        self.chosen = chosen

    def random(self, count):
        assert count == len(self.chosen)
        return np.where(self.chosen, 0.0, 0.9)


def test_chosen_boxes_are_pasted_with_what_lies_under_them():
    """Boxes 0 and 2 of the second are chosen; box 1 shares columns 4 and 5 with box 0."""
    first = sample(10, [[0, 0, 4, 2], [2, 2, 6, 4], [8, 0, 10, 2]], [1, 2, 3])
    second = sample(200, [[2, 2, 6, 6], [4, 2, 8, 6], [7, 7, 10, 10], [0, 8, 2, 10]], [4, 5, 6, 7])
    pasted = copy_paste(first, second, Chosen(True, False, True, False), HALF)
    assert (pasted.image[2:6, 2:6] == 200).all() and (pasted.image[7:, 7:] == 200).all()
    assert (pasted.image == 200).all(axis=2).sum() == 16 + 9
    assert pasted.boxes_xyxy_px.tolist() == [
        [0, 0, 4, 2],
        [8, 0, 10, 2],
        [2, 2, 6, 6],
        [4, 2, 6, 6],  # half of it is shown
        [7, 7, 10, 10],
    ]
    assert pasted.class_ids.tolist() == [1, 3, 4, 5, 6]
    strict = copy_paste(
        first, second, Chosen(True, False, False, False), AugmentConfig(min_visible=0.6)
    )
    assert strict.class_ids.tolist() == [1, 3, 4]


def test_nothing_chosen_and_nothing_to_choose():
    first = sample(10, [[0, 0, 4, 2]], [1])
    for second in (sample(200, [[2, 2, 6, 6]], [4]), sample(200, [], [])):
        pasted = copy_paste(first, second, Chosen(*[False] * len(second.class_ids)), ANY)
        assert np.array_equal(pasted.image, first.image)
        assert pasted.class_ids.tolist() == [1]


def test_about_half_of_the_boxes_are_chosen(rng):
    boxes = [[k, 0, k + 1, 1] for k in range(10)]
    first = sample(10, [], [])
    counts = [
        len(copy_paste(first, sample(200, boxes, range(10)), rng, ANY).class_ids)
        for _ in range(300)
    ]
    assert abs(np.mean(counts) - 5) < 0.4 and min(counts) < 4 and max(counts) > 6


# ---------------------------------------------------------------- random erasing


def test_erased_pixels_are_noise_and_the_rest_stays(rng):
    image = np.full((40, 40, 3), 7, np.uint8)
    erased = erase_part(image, (5, 10, 20, 24), rng)
    part = erased[10:34, 5:25]
    assert (image == 7).all() and (erased == 7).all(axis=2).sum() >= 1600 - 480
    assert abs(part.mean() - 127.5) < 6 and abs(part.std() - np.sqrt((256**2 - 1) / 12)) < 4
    assert np.ptp(part.astype(int), axis=2).mean() > 50  # each channel by itself


def test_boxes_that_are_mostly_erased_are_dropped_and_others_stay_whole(monkeypatch):
    """Columns 0 to 4 of 10 are erased."""
    monkeypatch.setattr("mindyolo_v4.data.augment.paste.draw_erased", lambda *_: (0, 0, 5, 10))
    one = sample(9, [[3, 0, 9, 4], [0, 0, 8, 2], [1, 1, 4, 4]], [1, 2, 3])
    erased = erase(one, np.random.default_rng(0), HALF)
    assert erased.boxes_xyxy_px.tolist() == [[3, 0, 9, 4]]  # 4 of 6 columns; 3 of 8; none
    kept = erase(one, np.random.default_rng(0), ANY)
    assert kept.class_ids.tolist() == [1, 2]  # without min_visible only what is gone is dropped


@pytest.mark.parametrize("name", ["cutmix", "copy_paste", "erase"])
def test_inputs_stay(name, rng):
    first = sample(10, [[0, 0, 40, 20]], [1], 64)
    second = sample(200, [[10, 10, 40, 40]], [2], 64)
    if name == "erase":
        erase(first, rng, ANY)
    else:
        {"cutmix": cutmix, "copy_paste": copy_paste}[name](first, second, rng, ANY)
    for one, level in ((first, 10), (second, 200)):
        assert (one.image == level).all() and len(one.class_ids) == 1
    assert show_part(first, second, region(0, 0, 0, 0, 64), ANY).class_ids.tolist() == [1]

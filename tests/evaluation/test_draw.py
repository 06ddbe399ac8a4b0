"""Colours, boxes and labels in drawn pictures."""

import itertools

import numpy as np
import pytest

from mindyolo_v4.evaluation.draw import class_color, draw_detections


def test_colours_are_stable_and_distinct():
    colours = [class_color(k) for k in range(80)]
    assert colours[:2] == [(255, 25, 25), (115, 156, 255)]
    nearest = min(np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(colours, 2))
    assert nearest >= 8
    first = [np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(colours[:10], 2)]
    assert min(first) >= 40


def test_the_box_is_where_it_belongs():
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(
        image, np.array([[50.0, 80, 120, 160]]), np.array([0]), np.array([0.9]), ["cat"]
    )
    assert image.max() == 0
    assert drawn.dtype == np.uint8
    assert (
        tuple(drawn[120, 50]) == tuple(drawn[120, 119]) == tuple(drawn[159, 90]) == class_color(0)
    )
    assert drawn[120, 60:110].max() == 0
    assert drawn[120, 121:].max() == 0
    assert drawn[60:78, 52:90].max() > 0  # the label above


@pytest.mark.parametrize(
    "box", [(-50, -50, 500, 500), (0, 0, 12, 5), (290, 190, 300, 200), (295, 0, 320, 300)]
)
def test_labels_stay_inside(box):
    image = np.full((200, 300, 3), 128, np.uint8)
    drawn = draw_detections(
        image, np.array([box], float), np.array([3]), np.array([0.5]), ["a", "b", "c", "giraffe"]
    )
    plate = (drawn == class_color(3)).all(axis=2)
    columns = np.flatnonzero(plate.any(axis=0))
    assert columns.max() - columns.min() > 50  # a whole label's width lies in the image
    assert plate.sum() > 200


def test_the_best_score_is_on_top():
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[10.0, 30, 90, 90]] * 2)
    for scores, top in (([0.9, 0.5], 0), ([0.5, 0.9], 1)):
        drawn = draw_detections(image, boxes, np.array([0, 1]), np.array(scores), ["a", "b"])
        assert tuple(drawn[60, 10]) == class_color(top)


def test_odd_names_small_images_and_no_detections():
    image = np.zeros((20, 24, 3), np.uint8)
    drawn = draw_detections(
        image, np.array([[2.0, 2, 20, 18]]), np.array([0]), None, ["车辆 très long nom de classe"]
    )
    assert drawn.max() > 0
    nothing = draw_detections(image, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), ["a"])
    assert nothing.max() == 0
    assert nothing is not image


@pytest.mark.parametrize("corner", [(100, 100), (0, 0), (290, 295)])
def test_labels_do_not_cover_one_another(corner):
    # Tiny boxes, so that nearly all pixels of a class's colour are those of its label.
    box = [*corner, corner[0] + 6, corner[1] + 4]
    image = np.zeros((300, 300, 3), np.uint8)
    names = [f"class {k}" for k in range(12)]
    scores = np.linspace(0.9, 0.3, 12)
    together = draw_detections(image, np.array([box] * 12), np.arange(12), scores, names)
    for k in range(12):
        alone = draw_detections(image, np.array([box]), np.array([k]), scores[k : k + 1], names)
        whole = (alone == class_color(k)).all(axis=2).sum()
        assert whole > 300
        assert (together == class_color(k)).all(axis=2).sum() > whole - 40


def test_the_best_label_stays_at_its_box():
    boxes = np.array([[50.0, 80, 120, 160], [52, 82, 122, 162]])
    image = np.zeros((200, 300, 3), np.uint8)
    alone = draw_detections(image, boxes[:1], np.array([0]), np.array([0.9]), ["cat"])
    both = draw_detections(image, boxes, np.array([0, 1]), np.array([0.9, 0.8]), ["cat", "dog"])
    above = np.s_[60:78, 50:90]
    np.testing.assert_array_equal(both[above], alone[above])


def test_labels_without_a_free_place_are_left_out():
    boxes = np.array([[0.0, 0, 30, 12]] * 20)
    names = [f"class {k}" for k in range(20)]
    image = np.zeros((30, 60, 3), np.uint8)
    drawn = draw_detections(image, boxes, np.arange(20), np.linspace(0.9, 0.1, 20), names)
    labelled = [k for k in range(20) if (drawn == class_color(k)).all(axis=2).sum() > 100]
    assert labelled == [0, 1]  # two lines of text have room


def test_a_long_name_leaves_the_score_legible():
    image = np.zeros((400, 600, 3), np.uint8)
    box = np.array([[10.0, 100, 590, 390]])
    heights = []
    for name in ("x" * 40, "x" * 250):
        drawn = draw_detections(image, box, np.array([0]), np.array([0.9]), [name])
        plate = (drawn[:99] == class_color(0)).all(axis=2)
        heights.append(np.flatnonzero(plate.any(axis=1)).size)
    assert heights[1] >= heights[0] > 10

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

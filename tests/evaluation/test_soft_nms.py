"""Soft-NMS against hand-computed scores and a plain loop."""

import math

import numpy as np
import pytest

from mindyolo_v4.boxes import cxcywh_to_xyxy
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.evaluation.soft_nms import soft_suppression

# A, C, E of darknet's suppression example: IoU(A, C) = 0.538461, E overlaps none.
TABLE = np.array(
    [(0.50, 0.50, 0.40, 0.40, 0.9), (0.62, 0.50, 0.40, 0.40, 0.7), (0.80, 0.80, 0.10, 0.10, 0.5)]
)
BOXES = cxcywh_to_xyxy(TABLE[:, :4])
BOXES[2] += 1.0  # E overlaps C a little where it is
IOU = 0.28 / 0.52  # of A and C


def soft(kind, scores=TABLE[:, 4], class_ids=(0, 0, 0), boxes=BOXES, **settings):
    config = EvaluateConfig(nms=kind, **settings)
    kept, new = soft_suppression(boxes, np.array(scores), np.array(class_ids), config)
    return kept.tolist(), new.tolist()


def test_linear_scores_fall_from_the_threshold_on():
    kept, scores = soft("soft_linear", iou_thres=0.3)
    assert kept == [0, 2, 1]
    assert scores == pytest.approx([0.9, 0.5, 0.7 * (1 - IOU)])
    kept, scores = soft("soft_linear", iou_thres=0.6)
    assert (kept, scores) == ([0, 1, 2], [0.9, 0.7, 0.5])


def test_gaussian_scores_fall_with_the_square_of_the_overlap():
    kept, scores = soft("soft_gaussian")
    assert kept == [0, 2, 1]
    assert scores == pytest.approx([0.9, 0.5, 0.7 * math.exp(-(IOU**2) / 0.5)])
    _, sharper = soft("soft_gaussian", soft_sigma=0.1)
    assert sharper == pytest.approx([0.9, 0.5, 0.7 * math.exp(-(IOU**2) / 0.1)])


def test_other_classes_are_left_alone():
    kept, scores = soft("soft_gaussian", class_ids=(0, 5, 0))
    assert (kept, scores) == ([0, 1, 2], [0.9, 0.7, 0.5])


def test_what_falls_to_the_threshold_is_dropped():
    assert soft("soft_gaussian", conf_thres=0.4)[0] == [0, 2]
    identical = np.array([[0.0, 0, 1, 1]] * 2)
    linear = soft("soft_linear", (0.9, 0.8), (0, 0), identical, conf_thres=0.0)
    assert linear == ([0], [0.9])


def test_at_most_max_det_and_nothing_of_nothing():
    assert soft("soft_linear", max_det=2) == ([0, 1], [0.9, 0.7])
    assert soft("soft_gaussian", (), np.zeros(0, int), np.zeros((0, 4))) == ([], [])


@pytest.mark.parametrize("kind", ["soft_linear", "soft_gaussian"])
def test_equals_a_plain_loop(rng, kind):
    low = rng.integers(0, 40, (150, 2))
    boxes = np.concatenate([low, low + rng.integers(4, 30, (150, 2))], axis=1).astype(float)
    scores = rng.random(150)
    class_ids = rng.integers(0, 3, 150)
    kept, new = soft(kind, scores, class_ids, boxes, iou_thres=0.4, conf_thres=0.05, max_det=90)

    expected = []
    current = scores.tolist()
    left = set(range(150))
    while left and len(expected) < 90:
        best = max(left, key=lambda k: current[k])
        if current[best] <= 0.05:
            break
        left.remove(best)
        expected.append((best, current[best]))
        for other in left:
            if class_ids[other] == class_ids[best]:
                iou = plain_iou(boxes[best], boxes[other])
                if kind == "soft_gaussian":
                    current[other] *= math.exp(-(iou**2) / 0.5)
                elif iou >= 0.4:
                    current[other] *= 1 - iou
    assert len(expected) > 20
    assert kept == [index for index, _ in expected]
    assert new == pytest.approx([score for _, score in expected])


def plain_iou(first, second):
    width = max(0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)

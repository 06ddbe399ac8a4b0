"""Weighted boxes fusion against hand-computed boxes and numbers of the authors' package."""

import numpy as np
import pytest

from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.evaluation.fusion import fuse_boxes


def fuse(boxes, scores, class_ids, predictors, **settings):
    arrays = (
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
        np.array(class_ids, int),
    )
    fused = fuse_boxes(*arrays, EvaluateConfig(nms="wbf", **settings), predictors)
    return tuple(array.tolist() for array in fused)


@pytest.mark.parametrize(
    ("predictors", "factors"), [(1, (1, 1)), (2, (1, 1 / 2)), (3, (2 / 3, 1 / 3))]
)
def test_a_cluster_is_the_mean_weighted_by_the_scores(predictors, factors):
    boxes = [[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]]  # IoU of the first two: 80 / 120
    fused, scores, ids = fuse(boxes, [0.9, 0.6, 0.3], [4, 4, 4], predictors)
    # (0.9 x 0 + 0.6 x 2) / 1.5 = 0.8; mean score 0.75
    assert fused == pytest.approx(np.array([[0.8, 0, 10.8, 10], [50, 50, 60, 60]]))
    assert scores == pytest.approx([0.75 * factors[0], 0.3 * factors[1]])
    assert ids == [4, 4]


def test_a_box_joins_the_fused_box_and_not_the_first():
    # the first two become [1, 0, 11, 10]; IoU of the third with it 8 / 12, with the first 7 / 13
    boxes = [[0, 0, 10, 10], [2, 0, 12, 10], [3, 0, 13, 10]]
    fused, scores, _ = fuse(boxes, [0.9, 0.9, 0.1], [0, 0, 0], 1)
    assert fused == pytest.approx(np.array([[(0.9 * 2 + 0.1 * 3) / 1.9, 0, 10 + 2.1 / 1.9, 10]]))
    assert scores == pytest.approx([1.9 / 3])
    apart = fuse(boxes, [0.9, 0.1, 0.9], [0, 1, 0], 1)  # another class takes no part
    assert [len(part) for part in apart] == [3, 3, 3]


def test_equals_the_package_of_the_authors():
    # ensemble_boxes 1.0.9: weighted_boxes_fusion of three models, iou_thr=0.55
    boxes = [
        *([0.10, 0.10, 0.30, 0.30], [0.50, 0.50, 0.90, 0.80], [0.12, 0.50, 0.32, 0.72]),
        *([0.11, 0.12, 0.31, 0.31], [0.52, 0.48, 0.88, 0.82]),
        *([0.09, 0.10, 0.29, 0.31], [0.70, 0.10, 0.90, 0.20]),
    ]
    scores = [0.9, 0.8, 0.3, 0.7, 0.6, 0.5, 0.4]
    fused, means, ids = fuse(boxes, scores, [0, 1, 0, 0, 1, 0, 1], 3, iou_thres=0.55)
    expected = [
        [0.100952, 0.106667, 0.300952, 0.305714],
        [0.508571, 0.491429, 0.891429, 0.808571],
        [0.7, 0.1, 0.9, 0.2],
        [0.12, 0.5, 0.32, 0.72],
    ]
    assert fused == pytest.approx(np.array(expected), abs=1e-6)
    assert means == pytest.approx([0.7, 0.466667, 0.133333, 0.1], abs=1e-6)
    assert ids == [0, 1, 1, 0]


def test_the_best_are_returned_and_nothing_of_nothing():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    _, scores, ids = fuse(boxes, [0.2, 0.9, 0.5], [0, 1, 2], 1, max_det=2)
    assert (scores, ids) == ([0.9, 0.5], [1, 2])
    assert fuse(boxes, [0.2, 0.9, 0.5], [0, 1, 2], 2, conf_thres=0.25)[1] == [0.45]
    assert fuse([], [], [], 1) == ([], [], [])

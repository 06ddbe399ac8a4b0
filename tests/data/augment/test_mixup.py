"""Mixup: hand-computed blend, both sets of boxes, draws and purity."""

import numpy as np

from mindyolo_v4.data.augment.mixup import mixup
from mindyolo_v4.data.sample import Sample

FIRST = Sample(
    np.full((4, 4, 3), 200, np.uint8), np.array([[0, 0, 2, 2]], np.float32), np.array([1])
)
SECOND = Sample(
    np.full((4, 4, 3), 100, np.uint8), np.array([[1, 1, 4, 4]], np.float32), np.array([2])
)


def test_blend_is_the_weighted_mean_with_all_boxes():
    class Draws:
        def beta(self, a, b):
            return 0.25

    blended = mixup(FIRST, SECOND, Draws(), 8.0)
    assert np.unique(blended.image).tolist() == [125] and blended.image.dtype == np.uint8
    assert blended.boxes_xyxy_px.tolist() == [[0, 0, 2, 2], [1, 1, 4, 4]]
    assert blended.class_ids.tolist() == [1, 2]


def test_weights_follow_the_beta_distribution():
    rng = np.random.default_rng(0)
    weights = np.array(
        [(int(mixup(FIRST, SECOND, rng, 8.0).image[0, 0, 0]) - 100) / 100 for _ in range(1500)]
    )
    assert abs(weights.mean() - 0.5) < 0.02
    assert (
        abs(weights.std() - np.sqrt(1 / (4 * 17))) < 0.01
    )  # variance of Beta(b, b) = 1 / (4 (2b + 1))


def test_inputs_stay():
    mixup(FIRST, SECOND, np.random.default_rng(0), 8.0)
    assert np.unique(FIRST.image).tolist() == [200] and np.unique(SECOND.image).tolist() == [100]
    assert FIRST.class_ids.tolist() == [1]

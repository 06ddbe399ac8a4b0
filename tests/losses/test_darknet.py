"""darknet's gradients against numbers that darknet itself gave, and against the formulas."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.losses.darknet import (
    behind_logistic,
    box_gradient,
    focal_weight,
    limit,
    with_gradient_of,
)

pytestmark = pytest.mark.usefixtures("pynative_mode")
# Prediction, target, and D that darknet's dx_box_iou gave with ciou (float32, on a CPU).
CIOU = [
    ((0.5, 0.5, 0.4, 0.4), (0.6, 0.6, 0.4, 0.4), (2.294744, 2.294744, 0.493686, 0.493686)),
    ((0.30, 0.30, 0.20, 0.40), (0.36, 0.33, 0.30, 0.26),
     (3.994245, 0.234284, 0.166670, -1.627110)),
    ((0.2, 0.2, 0.1, 0.1), (0.7, 0.8, 0.2, 0.1), (2.048264, 2.340702, 0.476673, 0.512330)),
    ((0.5, 0.5, 0.6, 0.2), (0.5, 0.5, 0.2, 0.6), (0, 0, -0.445615, 1.336844)),
    ((0.5, 0.5, 0.8, 0.8), (0.55, 0.45, 0.4, 0.5), (0.078125, -0.078125, -0.776882, -0.775853)),
    ((0.45, 0.52, 0.3, 0.1), (0.5, 0.5, 0.35, 0.15), (3.422038, -0.245210, 0.949922, 9.545569)),
]  # fmt: skip
# The first pair has no aspect part. In the fourth it is (-0.045615, 0.136844) of w and h.
OTHER_KINDS = [
    ("giou", 0, (2.454745, 2.454745, 0.613686, 0.613686)),
    ("iou", 0, (1.814744, 1.814744, 0.453686, 0.453686)),
    ("diou", 0, CIOU[0][2]),
    ("diou", 3, (0, 0, -0.4, 1.2)),
]


def planes(boxes):
    return tuple(Tensor(np.ascontiguousarray(plane, np.float32)) for plane in np.array(boxes).T)


def gradient(pairs, kind):
    found = box_gradient(planes([p[0] for p in pairs]), planes([p[1] for p in pairs]), kind)
    return np.stack([plane.asnumpy() for plane in found], 1)


def test_ciou_of_darknet():
    found = gradient(CIOU, "ciou")
    np.testing.assert_allclose(found, [pair[2] for pair in CIOU], rtol=2e-6, atol=2e-6)


class Compiled(nn.Cell):
    """darknet's gradient of CIoU, as a graph."""

    def construct(self, boxes, targets):
        return box_gradient(boxes, targets, "ciou")


def test_ciou_of_darknet_in_a_graph(graph_mode):
    found = Compiled()(planes([pair[0] for pair in CIOU]), planes([pair[1] for pair in CIOU]))
    found = np.stack([plane.asnumpy() for plane in found], 1)
    np.testing.assert_allclose(found, [pair[2] for pair in CIOU], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("kind", "pair", "expected"), OTHER_KINDS)
def test_other_kinds_of_darknet(kind, pair, expected):
    np.testing.assert_allclose(gradient(CIOU[pair : pair + 1], kind)[0], expected, atol=3e-6)


def test_what_is_not_finite_becomes_0_and_the_rest_is_clipped():
    values = Tensor(np.array([np.nan, np.inf, -np.inf, 7.0, -7.0, 1.5], np.float32))
    np.testing.assert_array_equal(limit(values, 5.0).asnumpy(), [0, 0, 0, 5, -5, 1.5])
    np.testing.assert_array_equal(limit(values, None).asnumpy(), [0, 0, 0, 7, -7, 1.5])


def test_padding_has_no_delta():
    found = box_gradient(planes([(0.5, 0.5, 0.2, 0.2)]), planes([(0.0, 0.0, 0.0, 0.0)]), "ciou")
    assert all(np.isfinite(limit(plane, None).asnumpy()).all() for plane in found)


def test_a_value_takes_the_gradient_of_a_surrogate():
    def square_with_cube(x):
        return with_gradient_of(x * x, x * x * x)

    value, slope = ms.value_and_grad(square_with_cube)(Tensor(3.0))
    assert (float(value), float(slope)) == (9.0, 27.0)


def test_gradients_behind_the_logistic_of_the_last_convolution():
    logits = np.array([-30.0, -1.0, 0.0, 2.5], np.float32)
    value, slope = ms.value_and_grad(lambda x: behind_logistic(x).sum())(Tensor(logits))
    assert float(value) == logits.sum()
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(slope.asnumpy(), p * (1 - p), rtol=1e-5, atol=1e-12)


def test_focal_weight_is_half_the_ratio_of_the_derivatives():
    """At the true class: d/dt of -(1 - p)^2 log p over d/dt of -log p, by finite differences."""
    logits = np.array([-3.0, 0.0, 1.0, 4.0])

    def probability(t):
        return 1 / (1 + np.exp(-t))

    def focal(t):
        return -((1 - probability(t)) ** 2) * np.log(probability(t))

    slopes = (focal(logits + 1e-5) - focal(logits - 1e-5)) / 2e-5
    expected = 0.5 * slopes / (probability(logits) - 1)
    found = focal_weight(Tensor(logits.astype(np.float32))).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[1] == pytest.approx(0.25 * (np.log(2) + 0.5), rel=1e-5)

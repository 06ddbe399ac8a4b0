import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from mindyolo_v4.losses.iou import box_similarity

# prediction, truth, IoU, GIoU, DIoU, CIoU, true gradient of CIoU with alpha constant.
PAIRS = [
    ((0.5, 0.5, 0.4, 0.4), (0.6, 0.6, 0.4, 0.4), 0.391304, 0.311304, 0.351304, 0.351304,
     (2.134745, 2.134745, 0.266843, 0.266843)),
    ((0.30, 0.30, 0.20, 0.40), (0.36, 0.33, 0.30, 0.26), 0.454880, 0.330687, 0.437309, 0.430858,
     (3.909167, 0.234283, 0.153055, -0.815653)),
    ((0.2, 0.2, 0.1, 0.1), (0.7, 0.8, 0.2, 0.1), 0, -0.934066, -0.668493, -0.670183,
     (0.143517, 0.289435, 0.528695, 0.460308)),
    ((0.5, 0.5, 0.6, 0.2), (0.5, 0.5, 0.2, 0.6), 0.2, -0.244444, 0.2, 0.094254,
     (0, 0, -0.314037, 0.942110)),
    ((0.5, 0.5, 0.8, 0.8), (0.55, 0.45, 0.4, 0.5), 0.3125, 0.3125, 0.308594, 0.308558,
     (0.078125, -0.078125, -0.386144, -0.385340)),
    ((0.45, 0.52, 0.3, 0.1), (0.5, 0.5, 0.35, 0.15), 0.5, 0.477778, 0.482222, 0.482207,
     (3.258563, -0.245211, 0.495038, 4.773854)),
]  # fmt: skip
KINDS = ("iou", "giou", "diou", "ciou")


def planes(boxes):
    # mutable: a plain tuple of tensors would be a constant of the graph, folded at compilation.
    return ms.mutable(
        tuple(Tensor(np.ascontiguousarray(plane, np.float32)) for plane in np.array(boxes).T)
    )


def summed(x, y, w, h, truths, kind):
    return ops.sum(box_similarity((x, y, w, h), truths, kind))


@ms.jit
def values_in_graph(boxes, truths, kind):
    return box_similarity(boxes, truths, kind)


@ms.jit
def gradient_in_graph(x, y, w, h, truths, kind):
    return ms.grad(summed, (0, 1, 2, 3))(x, y, w, h, truths, kind)


def gradient_in_pynative(x, y, w, h, truths, kind):
    return ms.grad(summed, (0, 1, 2, 3))(x, y, w, h, truths, kind)


@pytest.mark.parametrize("function", [values_in_graph, box_similarity])
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind, function):
    found = function(planes([pair[0] for pair in PAIRS]), planes([pair[1] for pair in PAIRS]), kind)
    np.testing.assert_allclose(
        found.asnumpy(), [pair[2 + KINDS.index(kind)] for pair in PAIRS], atol=1.5e-6
    )


@pytest.mark.parametrize("function", [gradient_in_graph, gradient_in_pynative])
def test_ciou_gradient(function):
    found = function(
        *planes([pair[0] for pair in PAIRS]), planes([pair[1] for pair in PAIRS]), "ciou"
    )
    np.testing.assert_allclose(
        np.stack([g.asnumpy() for g in found], 1), [pair[6] for pair in PAIRS], atol=5e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_size_and_huge_sizes_are_finite(kind):
    sizes = [(0.0, 0.0), (0.0, 50.0), (50.0, 0.0), (1e7, 1e7), (1e7, 0.0), (1e-30, 1e-12)]
    boxes = planes([(30.0, 40.0, *size) for size in sizes])
    for truth in ((30.0, 40.0, 20.0, 10.0), (0.0, 0.0, 0.0, 0.0)):
        truths = planes([truth] * len(sizes))
        assert np.isfinite(values_in_graph(boxes, truths, kind).asnumpy()).all()
        for gradient in gradient_in_graph(*boxes, truths, kind):
            assert np.isfinite(gradient.asnumpy()).all()

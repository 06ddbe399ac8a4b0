import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.anchors import decode_boxes
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.losses.decode import (
    box_logits,
    box_logits_transposed,
    decode_planes,
    prediction_constants,
    prediction_plane,
    slice_channel,
    split_anchors,
    strided_channel,
)


@ms.jit
def decode_in_graph(logits, constants, square):
    return decode_planes(logits, constants, square)


class Planes(nn.Cell):
    """Cut the box channels and the objectness out of raw maps, in one form."""

    def __init__(self, box_planes, cut):
        super().__init__()
        self.box_planes = box_planes
        self.cut = cut

    def construct(self, maps):
        split = split_anchors(maps, (3, 3, 3))
        # Graph mode unpacks no star.
        return self.box_planes(split) + (prediction_plane(split, 4, self.cut),)  # noqa: RUF005


class WeightedSum(nn.Cell):
    """Reduce the objectness to a scalar with fixed weights, so that it has a gradient."""

    def __init__(self, cut):
        super().__init__()
        self.cut = cut

    def construct(self, maps, weights):
        return (prediction_plane(split_anchors(maps, (3, 3, 3)), 4, self.cut) * weights).sum()


def run(logits, constants, graph, square=False):
    decode = decode_in_graph if graph else decode_planes
    constants = tuple(Tensor(plane) for plane in constants)
    planes = decode(ms.mutable(tuple(Tensor(plane) for plane in logits)), constants, square)
    return np.stack([plane.asnumpy() for plane in planes], axis=-1)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("box_decode", ["exp", "square"])
@pytest.mark.parametrize("masks", [None, ((0, 1), (1, 2, 3, 8), (4,))])
def test_equals_the_numpy_decode(graph, box_decode, masks, rng):
    anchors = ModelConfig(box_decode=box_decode, anchor_masks=masks).anchor_set
    constants = prediction_constants(anchors, 64)
    logits = rng.normal(0, 3, (4, constants[0].size)).astype(np.float32)
    logits[2, :5] = 50.0  # held by the clamp
    expected, start = [], 0
    for level in anchors.levels:
        side = 64 // level.stride
        rows, columns = np.divmod(np.arange(side * side), side)
        for wh in level.anchors_wh_px:
            part = logits[:, start : start + side * side].T
            expected.append(
                decode_boxes(part, columns, rows, np.full((side * side, 2), wh, np.float32), level)
            )
            start += side * side
    found = run(logits, constants, graph, box_decode == "square")
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "prediction", "logits", "expected"),
    [  # prediction = first of the level + anchor H W + row W + column
        (608, 76 * 76 + 7 * 76 + 10, (0.2, -0.3, 0.1, -0.2), (84.4784, 59.2854, 20.9982, 29.4743)),
        (
            608,
            17328 + 2 * 38 * 38 + 37 * 38,
            (1.5, -2.0, -0.4, 0.3),
            (13.5893, 593.2980, 48.2630, 197.0794),
        ),
        (
            608,
            21660 + 19 * 19 + 3 * 19 + 18,
            (-4.0, 4.0, 0.5, 0.25),
            (575.8043, 128.1957, 316.5545, 312.0182),
        ),
        (416, 10140 + 2 * 13 * 13 + 6 * 13 + 6, (0.0, 0.0, 0.0, 0.0), (208.0, 208.0, 459.0, 401.0)),
    ],
)
def test_vectors(size, prediction, logits, expected):
    constants = [
        plane[prediction : prediction + 1]
        for plane in prediction_constants(ModelConfig().anchor_set, size)
    ]
    boxes = run(np.array(logits, np.float32).reshape(4, 1), constants, graph=True)
    np.testing.assert_allclose(boxes, [expected], rtol=1e-5)


FORMS = [(box_logits, slice_channel), (box_logits_transposed, strided_channel)]


@pytest.mark.parametrize(("box_planes", "cut"), FORMS)
def test_planes_follow_the_channel_order(box_planes, cut, rng, graph_mode):
    maps = [rng.normal(size=(2, 3 * 7, side, side)).astype(np.float32) for side in (4, 2, 1)]
    tensors = ms.mutable(tuple(Tensor(level_map) for level_map in maps))
    for channel, found in enumerate(Planes(box_planes, cut)(tensors)):
        parts = [m[:, anchor * 7 + channel].reshape(2, -1) for m in maps for anchor in range(3)]
        np.testing.assert_array_equal(found.asnumpy()[:, 0], np.concatenate(parts, axis=1))

    # The gradient puts each weight into the channel that it came from, and 0 into the others.
    weights = rng.normal(size=(2, 1, 63)).astype(np.float32)
    gradients = ms.grad(WeightedSum(cut))(tensors, Tensor(weights))
    start = 0
    for gradient, level_map in zip(gradients, maps, strict=True):
        cells = level_map[0, 0].size
        expected = np.zeros((2, 3, 7, cells), np.float32)
        expected[:, :, 4] = weights[:, 0, start : start + 3 * cells].reshape(2, 3, cells)
        np.testing.assert_array_equal(gradient.asnumpy().reshape(expected.shape), expected)
        start += 3 * cells

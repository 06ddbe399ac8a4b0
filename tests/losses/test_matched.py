"""What is read of the matches, in both forms, against indexing in numpy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.losses.decode import prediction_constants
from mindyolo_v4.losses.matched import GatheredRows, GatheredValues, gather_class, select_class

SIZE, CLASSES, IMAGES = 64, 3, 2
ANCHORS = ModelConfig(anchor_masks=((0, 1), (1, 2, 3, 8), (4,))).anchor_set
CONSTANTS = prediction_constants(ANCHORS, SIZE)


class WeightedSum(nn.Cell):
    """Reduce what is read to a scalar with fixed weights, so that it has a gradient."""

    def __init__(self, matched):
        super().__init__()
        self.matched = matched

    def construct(self, maps, prediction, weights):
        planes, classes, _ = self.matched(maps, prediction)
        total = (classes * weights[:, 5:]).sum()
        for channel in range(5):
            total += (planes[channel] * weights[:, channel : channel + 1]).sum()
        return total


class ScoreSum(nn.Cell):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def construct(self, scores, class_ids, weights):
        return (self.form(scores, class_ids) * weights).sum()


def matched(form):
    constants = tuple(Tensor(plane) for plane in CONSTANTS)
    if form is GatheredValues:
        return GatheredValues(constants, ANCHORS, CLASSES, SIZE)
    return GatheredRows(constants, CLASSES)


def split_maps(rng):
    """Return maps as `split_anchors` leaves them, (B, A, 5 + C, H W) per level."""
    shapes = [(len(level.anchor_ids), (SIZE // level.stride) ** 2) for level in ANCHORS.levels]
    return [
        rng.normal(size=(IMAGES, anchors, 5 + CLASSES, cells)).astype(np.float32)
        for anchors, cells in shapes
    ]


def rows_of(maps):
    """Return (B, N, 5 + C), in the order of the predictions."""
    rows = [level.transpose(0, 1, 3, 2).reshape(IMAGES, -1, 5 + CLASSES) for level in maps]
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize("form", [GatheredValues, GatheredRows])
def test_matched_values_and_gradient(form, rng, graph_mode):
    maps = split_maps(rng)
    rows = rows_of(maps)
    prediction = rng.integers(0, rows.shape[1], (IMAGES, 1, 20)).astype(np.int32)
    prediction[:, 0, :3] = 0, rows.shape[1] - 1, prediction[0, 0, 3]  # the ends, and one twice
    tensors = ms.mutable(tuple(Tensor(level) for level in maps))
    planes, classes, constants = matched(form)(tensors, Tensor(prediction))
    read = np.concatenate([plane.asnumpy() for plane in (*planes, classes)], axis=1)
    expected = np.stack([rows[image, prediction[image, 0]].T for image in range(IMAGES)])
    np.testing.assert_array_equal(read, expected)
    for plane, values in zip(constants, CONSTANTS, strict=True):
        np.testing.assert_array_equal(plane.asnumpy(), values[prediction])

    # The gradient adds up where a prediction is matched twice.
    weights = rng.normal(size=read.shape).astype(np.float32)
    expected = np.zeros_like(rows)
    for image in range(IMAGES):
        np.add.at(expected[image], prediction[image, 0], weights[image].T)
    gradients = ms.grad(WeightedSum(matched(form)))(tensors, Tensor(prediction), Tensor(weights))
    found = rows_of([gradient.asnumpy() for gradient in gradients])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", [gather_class, select_class])
@pytest.mark.parametrize(
    ("scores", "ids"), [((4, 6), (4, 2)), ((2, 6, 5), (2, 1, 5))], ids=["classifier", "detector"]
)
def test_class_scores_and_gradient(form, scores, ids, rng, graph_mode):
    values = rng.normal(size=scores).astype(np.float32)
    class_ids = rng.integers(0, 6, ids).astype(np.int32)
    class_ids[0] = 5  # the same class twice
    weights = rng.normal(size=ids).astype(np.float32)
    arguments = Tensor(values), Tensor(class_ids), Tensor(weights)
    total = ScoreSum(form)(*arguments)
    expected = (np.take_along_axis(values, class_ids, 1) * weights).sum()
    assert float(total) == pytest.approx(expected, rel=1e-5)

    expected = np.zeros_like(values)
    for index in np.ndindex(class_ids.shape):
        image, _, *column = index
        expected[(image, class_ids[index], *column)] += weights[index]
    gradient = ms.grad(ScoreSum(form))(*arguments).asnumpy()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)

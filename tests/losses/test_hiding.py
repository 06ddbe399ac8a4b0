"""The deltas of darknet's adversarial pass, in float64 NumPy, prediction by prediction."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.losses.hiding import HidingLoss

SIZE = 64
CLASSES = 2
CHANNELS = 5 + CLASSES
ANCHORS = ModelConfig().anchor_set


class Deltas(nn.Cell):
    """Minus the gradient of the loss by the three maps."""

    def __init__(self, loss: nn.Cell):
        super().__init__()
        self.loss = loss
        self.gradient = ms.grad(self.of_maps, (0, 1, 2))

    def of_maps(self, small, middle, large):
        return self.loss((small, middle, large))

    def construct(self, small, middle, large):
        return self.gradient(small, middle, large)


def deltas(anchors: AnchorSet, loss: LossConfig, maps: list[np.ndarray]) -> list[np.ndarray]:
    gradients = Deltas(HidingLoss(anchors, loss))(*(Tensor(level) for level in maps))
    return [-gradient.asnumpy() for gradient in gradients]


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def logit(p):
    return np.log(p / (1 - p))


def expected(
    anchors: AnchorSet, obj_normalizers: tuple[float, ...], maps: list[np.ndarray]
) -> list[np.ndarray]:
    """Return the deltas as darknet's loops write them (x and y scaled; sizes by exp, or squares).

    With squares, `new_coords`, the last convolution multiplies them by the logistic's derivative.
    """
    results = []
    for level, raw, obj_normalizer in zip(anchors.levels, maps, obj_normalizers, strict=True):
        result = np.zeros(raw.shape)
        for image, anchor, row, column in np.ndindex(len(raw), 3, *raw.shape[2:]):
            first = anchor * CHANNELS
            logits = raw[image, first : first + CHANNELS, row, column].astype(np.float64)
            square = level.box_decode == "square"
            xy = level.scale_x_y * sigmoid(logits[:2]) - (level.scale_x_y - 1) / 2
            factors = (2 * sigmoid(logits[2:4])) ** 2 if square else np.exp(logits[2:4])
            wh = factors * level.anchors_wh_px[anchor] / SIZE
            out = [*xy, *(sigmoid(logits[2:4]) if square else logits[2:4]), *sigmoid(logits[4:])]
            s = np.sqrt(wh[0] * wh[1])
            delta = np.zeros(CHANNELS)
            delta[4] = s * obj_normalizer * (0 - out[4])
            seen = [out[5 + c] * out[4] > 0.25 for c in range(CLASSES)]
            if any(seen):
                for c in range(CLASSES):
                    delta[5 + c] = s * ((0 if seen[c] else 1) - out[5 + c])
                delta[:4] = s * (0 - np.array(out[:4]))
            if square:
                delta *= sigmoid(logits) * (1 - sigmoid(logits))
            result[image, first : first + CHANNELS, row, column] = delta
        results.append(result)
    return results


def random_maps(seed: int, images: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(images, 3 * CHANNELS, SIZE // s, SIZE // s) for s in (8, 16, 32)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_the_example_of_the_reference(graph_mode):
    """w 0.4, h 0.1, o 0.6, p (0.7, 0.2), x 0.5: s 0.2, deltas -0.12, (-0.14, 0.16) and -0.1."""
    maps = [np.full_like(level, -30.0) for level in random_maps(0, images=1)]
    level = ANCHORS.levels[1]
    width, height = level.anchors_wh_px[2]
    sizes = [np.log(0.4 * SIZE / width), np.log(0.1 * SIZE / height)]
    maps[1][0, 2 * CHANNELS :, 3, 1] = [0, 0, *sizes, logit(0.6), logit(0.7), logit(0.2)]
    own = deltas(ANCHORS, LossConfig(obj_gain=1.0), maps)[1][0, 2 * CHANNELS :, 3, 1]
    np.testing.assert_allclose(own[[0, 1]], -0.1, rtol=1e-5)
    np.testing.assert_allclose(own[[2, 3]], -0.2 * np.array(sizes), rtol=1e-5)
    np.testing.assert_allclose(own[4:], [-0.12, -0.14, 0.16], rtol=1e-5)


@pytest.mark.parametrize("box_decode", ["exp", "square"])
def test_deltas_of_every_prediction(graph_mode, box_decode):
    anchors = ModelConfig(box_decode=box_decode).anchor_set
    maps = random_maps(1)
    own = deltas(anchors, LossConfig(obj_gain=2.0, obj_balance=(4.0, 1.0, 0.4)), maps)
    reference = expected(anchors, (8.0, 2.0, 0.8), maps)
    found = [(level.reshape(2, 3, CHANNELS, -1)[:, :, 0] != 0).mean() for level in reference]
    assert all(0.1 < share < 0.9 for share in found)
    for level, right in zip(own, reference, strict=True):
        np.testing.assert_allclose(level, right, rtol=2e-5, atol=1e-7)

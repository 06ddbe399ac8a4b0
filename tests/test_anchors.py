import numpy as np
import pytest

from mindyolo_v4.anchors import MAX_SIZE_LOGIT, decode_boxes, sigmoid
from mindyolo_v4.config.model import ModelConfig

# size, stride, anchor id, (column, row), logits, pixels.
DECODE_ROWS = [
    (8, 1, (10, 7), (0.2, -0.3, 0.1, -0.2), (84.4784, 59.2854, 20.9982, 29.4743)),
    (16, 5, (0, 37), (1.5, -2.0, -0.4, 0.3), (13.5893, 593.2980, 48.2630, 197.0794)),
    (32, 7, (18, 3), (-4.0, 4.0, 0.5, 0.25), (575.8043, 128.1957, 316.5545, 312.0182)),
    (32, 8, (6, 6), (0.0, 0.0, 0.0, 0.0), (208.0, 208.0, 459.0, 401.0)),
]


def test_yolov4_levels():
    anchors = ModelConfig().anchor_set
    assert [level.stride for level in anchors.levels] == [8, 16, 32]
    assert [level.scale_x_y for level in anchors.levels] == [1.2, 1.1, 1.05]
    assert anchors.levels[1].anchors_wh_px == ((36, 75), (76, 55), (72, 146))
    assert len(anchors.anchors_wh_px) == 9


def test_tiny_shares_anchor_3_and_leaves_anchor_0():
    anchors = ModelConfig(architecture="yolov4-tiny").anchor_set
    assert [level.anchor_ids for level in anchors.levels] == [(1, 2, 3), (3, 4, 5)]
    assert anchors.levels[0].anchors_wh_px[2] == anchors.levels[1].anchors_wh_px[0] == (81, 82)


@pytest.mark.parametrize("architecture", ["yolov4-csp", "yolov4x-mish"])
def test_scaled_yolov4_has_yolov4s_anchors_and_new_coordinates(architecture):
    levels = ModelConfig(architecture=architecture).anchor_set.levels
    assert [level.anchors_wh_px for level in levels] == [
        level.anchors_wh_px for level in ModelConfig().anchor_set.levels
    ]
    assert [(level.stride, level.scale_x_y, level.box_decode) for level in levels] == [
        *((8, 2.0, "square"), (16, 2.0, "square"), (32, 2.0, "square"))
    ]


def test_the_third_level_of_tiny_brings_yolov4s_anchors():
    levels = ModelConfig(architecture="yolov4-tiny-3l").anchor_set.levels
    assert [(level.stride, level.anchor_ids) for level in levels] == [
        *((8, (0, 1, 2)), (16, (3, 4, 5)), (32, (6, 7, 8)))
    ]
    assert [(level.scale_x_y, level.box_decode) for level in levels] == [(1.05, "exp")] * 3
    assert levels[2].anchors_wh_px == ((142, 110), (192, 243), (459, 401))


def test_a_written_decode_beats_the_architectures():
    assert ModelConfig("yolov4-csp", box_decode="exp").anchor_set.levels[0].box_decode == "exp"
    assert (ModelConfig("yolov4-csp").decode, ModelConfig().decode) == ("square", "exp")


def test_own_anchors_and_scale():
    own = tuple((float(i), float(2 * i)) for i in range(1, 10))
    anchors = ModelConfig(anchors_wh_px=own, scale_x_y=(1.0, 1.5, 2.0)).anchor_set
    assert anchors.levels[2].anchors_wh_px == own[6:]
    assert anchors.levels[1].scale_x_y == 1.5


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise"):
        values = sigmoid(np.array([-1e4, 0.0, np.log(3.0), 1e4]))
    np.testing.assert_allclose(values, [0, 0.5, 0.75, 1], atol=1e-12)


@pytest.mark.parametrize(("stride", "anchor", "cell", "logits", "expected"), DECODE_ROWS)
def test_decode_vectors(stride, anchor, cell, logits, expected):
    anchors = ModelConfig().anchor_set
    level = next(level for level in anchors.levels if level.stride == stride)
    size = np.array([anchors.anchors_wh_px[anchor]])
    boxes = decode_boxes(np.array([logits]), np.array([cell[0]]), np.array([cell[1]]), size, level)
    np.testing.assert_allclose(boxes, [expected], rtol=2e-6, atol=5e-5)


def test_decode_holds_huge_sizes():
    level = ModelConfig().anchor_set.levels[0]
    logits = np.array([[0.0, 0.0, 1e6, -1e6]], np.float32)
    boxes = decode_boxes(logits, np.array([0]), np.array([0]), np.ones((1, 2), np.float32), level)
    np.testing.assert_allclose(boxes[0, 2:], [np.exp(MAX_SIZE_LOGIT), 0], rtol=1e-6)


def test_square_decode_by_hand():
    # sigma(0) = 1/2: the anchor itself, in the middle of cell (3, 2).
    # sigma(log 3) = 3/4: (2 * 3/4)^2 = 2.25 anchors.
    model = ModelConfig(box_decode="square", scale_x_y=(2.0, 2.0, 2.0))
    level = model.anchor_set.levels[0]
    logits = np.array([[0, 0, 0, 0], [np.log(3), 0, np.log(3), 0]])
    boxes = decode_boxes(
        logits, np.array([3, 3]), np.array([2, 2]), np.array([[10.0, 20.0]] * 2), level
    )
    np.testing.assert_allclose(boxes, [[28, 20, 10, 20], [32, 20, 22.5, 20]], rtol=1e-12)

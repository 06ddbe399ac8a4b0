"""The pools of the neck on maps that are larger than their windows; no golden network has one."""

import numpy as np
from mindspore import Tensor

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import ConvStyle
from mindyolo_v4.models.panet import PathAggregation, SpatialPyramid

STYLE = ConvStyle(ModelConfig(), "leaky")


def test_pyramid_joins_windows_13_9_5_and_the_map_itself(graph_mode: None) -> None:
    x = np.zeros((1, 2, 19, 19), np.float32)
    x[0, :, 9, 9] = (1.0, 2.0)
    joined = SpatialPyramid(2)(Tensor(x)).asnumpy()
    # A single peak reaches every output whose window holds it.
    areas = [13 * 13, 9 * 9, 5 * 5, 1]
    expected = [value * area for area in areas for value in (1.0, 2.0)]
    np.testing.assert_array_equal(joined.sum(axis=(2, 3)), [expected])


def test_neck_keeps_strides_and_halves_channels(graph_mode: None) -> None:
    neck = PathAggregation((64, 128, 256), ModelConfig(width=0.25), STYLE).set_train(False)
    maps = [np.ones((1, c, s, s), np.float32) for c, s in ((64, 16), (128, 8), (256, 4))]
    outputs = neck(*(Tensor(m) for m in maps))
    assert neck.out_channels == (32, 64, 128)
    assert [o.shape for o in outputs] == [(1, 32, 16, 16), (1, 64, 8, 8), (1, 128, 4, 4)]

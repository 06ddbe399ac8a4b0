"""Scaled YOLOv4, yolov4-csp and yolov4x-mish, against outputs that OpenCV's DNN computed.

OpenCV ran the layers of darknet's released cfg files with the golden weights. It adds 1e-6 to a
variance, and darknet 1e-5; the variances were raised by the difference. In this way OpenCV gives
darknet's own figures for yolov4-tiny to 1e-6. The gain of the kernels is GAIN, and 4 in the other
golden networks: with Mish in every layer, values would grow from layer to layer.
"""

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import ConvStyle
from mindyolo_v4.models.csp_panet import CSPPathAggregation
from mindyolo_v4.models.describe import giga_flops, parameter_count
from mindyolo_v4.models.yolov4 import YoloV4
from tests.models.golden import assert_golden, fill_golden, golden_image, scaled_layers

GAIN = 3.0
CSP = {  # idx: mean, std, largest absolute value, first three values, last value
    0: (0.237837, 0.485858, 3.11203, 0.085754, -0.224375, -0.096437, -0.263551),
    4: (0.0676757, 0.361822, 2.16017, -0.17974, -0.254039, -0.408284, 0.076599),
    17: (0.0177034, 0.152777, 1.02413, 0.0757274, 0.125971, 0.0874763, 0.00453006),
    48: (0.00966254, 0.111129, 0.593798, 0.0746698, 0.0157313, 0.0257527, 0.0282036),
    79: (0.0100258, 0.0938997, 0.540829, 0.0682021, 0.100213, 0.102215, 0.00178463),
    98: (0.00574006, 0.081326, 0.463966, -0.161719, -0.130039, -0.117399, 0.0953762),
    103: (0.0041041, 0.0688145, 0.340633, -0.10051, -0.0865724, -0.0878071, -0.115987),
    109: (0.019246, 0.0712737, 0.340633, -0.0865724, -0.0865724, -0.0865724, -0.115987),
    111: (0.00302195, 0.0641717, 0.272111, -0.0249142, 0.0108398, 0.0383116, -0.0604023),
    113: (0.00145362, 0.0696434, 0.256873, -0.00925548, -0.0150036, -0.0159195, 0.180033),
    127: (0.000885787, 0.0683548, 0.286409, 0.0403304, 0.0405687, 0.0387835, -0.0555035),
    141: (-0.00101458, 0.0637791, 0.184456, -0.0303755, -0.0335554, -0.0331633, -0.0288183),
    143: (-0.00335592, 0.0872424, 0.247404, 0.0699149, 0.0755819, 0.0701395, -0.0686508),
    156: (0.00104812, 0.0664349, 0.253224, 0.0498685, 0.0571542, 0.0585635, 0.0841635),
    158: (-0.00597353, 0.0877344, 0.314016, -0.0886402, -0.123919, -0.120768, 0.040795),
    171: (-0.000217115, 0.0675177, 0.238811, 0.0740519, 0.07345, 0.0700254, 0.0479781),
    173: (0.000712653, 0.0802442, 0.223884, -0.0740223, -0.0793022, -0.0629341, -0.0254546),
}
X_MISH = {
    0: (0.237837, 0.485858, 3.11203, 0.085754, -0.224375, -0.096437, -0.263551),
    4: (0.177919, 0.425468, 3.01635, 0.0429124, 0.00104617, -0.199068, -0.0955926),
    20: (0.0323009, 0.148453, 1.02991, -0.225458, -0.133331, -0.209876, -0.157155),
    57: (0.0169607, 0.148905, 0.786312, -0.0887645, 0.0101921, 0.0471704, 0.110539),
    94: (0.0140656, 0.121769, 0.830322, 0.311677, 0.497175, 0.451846, -0.016618),
    116: (0.00795902, 0.0843716, 0.514656, -0.026004, -0.0442209, -0.0738009, -0.0323138),
    121: (0.00619087, 0.0642304, 0.230846, 0.00851055, 0.00699976, -0.0138775, 0.0998229),
    127: (0.0200855, 0.0658035, 0.230846, 0.00851055, 0.00851055, 0.00851055, 0.0998229),
    131: (0.00849135, 0.0607394, 0.307829, 0.000152051, -0.007629, -0.0398102, 0.026471),
    133: (0.00603747, 0.0712395, 0.284972, -0.0842089, -0.076267, -0.0931387, -0.114667),
    149: (0.00372123, 0.0720834, 0.493803, -0.0214849, -0.0134317, -0.0177884, 0.0809715),
    165: (0.00540344, 0.074133, 0.347042, 0.0114501, 0.00583534, 0.00988718, 0.000738036),
    167: (0.00900627, 0.081216, 0.242475, -0.125953, -0.098646, -0.0975929, 0.0192164),
    182: (0.00170835, 0.068442, 0.257033, -0.114226, -0.112855, -0.108744, 0.212715),
    184: (-0.0091546, 0.0861579, 0.257775, 0.0547419, 0.0254795, 0.0199447, -0.0212816),
    199: (0.000714472, 0.0647122, 0.304289, 0.226152, 0.247678, 0.239504, 0.0180271),
    201: (-0.000255866, 0.0817061, 0.250107, -0.0429944, -0.0627896, -0.072784, 0.00930199),
}
CSP_PARTS = (17, 48, 79, 98, 103, 109, 111, 113, 127, 141, 143, 156, 158, 171, 173)
X_PARTS = (20, 57, 94, 116, 121, 127, 131, 133, 149, 165, 167, 182, 184, 199, 201)
STYLE = ConvStyle(ModelConfig(), "mish")


def inner_maps(network: YoloV4, parts: tuple[int, ...]) -> dict[int, Tensor]:
    """Return the maps of idx 0 and 4 and of the sections that end the parts of a network.

    Args:
        parts: section of the ends of stage 2 to 5; of the pools' input, of the pools, of what is
            behind them, of the neck's top; of topdown4 and topdown3; of the prediction of stride 8;
            then of neck and prediction of stride 16 and 32.
    """
    backbone, neck, head = network.backbone, network.neck, network.head
    first = backbone.stem(golden_image(64, 96))
    plain = backbone.stage1(first)
    map4 = backbone.stage2(plain)
    map8 = backbone.stage3(map4)
    map16 = backbone.stage4(map8)
    map32 = backbone.stage5(map16)
    before = neck.spp.before(map32)
    pooled = neck.spp.pools(before)
    after = neck.spp.after(pooled)
    top5 = neck.spp(map32)
    joined = (neck.lateral4(map16), neck.upsample(neck.reduce5(top5)))
    top4 = neck.topdown4(Tensor(np.concatenate([part.asnumpy() for part in joined], axis=1)))
    out3, out4, out5 = neck(map8, map16, map32)
    raw3, raw4, raw5 = head(out3, out4, out5)
    ends = (map4, map8, map16, map32, before, pooled, after, top5, top4)
    ends += (out3, raw3, out4, raw4, out5, raw5)
    return {0: first, 4: plain} | dict(zip(parts, ends, strict=True))


def test_golden_maps_of_yolov4_csp(pynative_mode: None) -> None:
    network = YoloV4(ModelConfig("yolov4-csp"), num_classes=80)
    layers = scaled_layers(blocks_by_stage=(1, 2, 8, 8, 4), pairs=2)
    assert fill_golden(network, layers, GAIN) == 52_986_205
    assert parameter_count(network) == 52_921_437
    assert giga_flops(network, 512) == pytest.approx(77.003, abs=5e-4)
    assert_golden(inner_maps(network.set_train(False), CSP_PARTS), CSP)


@pytest.mark.slow
def test_golden_maps_of_yolov4x_mish(pynative_mode: None) -> None:
    network = YoloV4(ModelConfig("yolov4x-mish"), num_classes=80)
    layers = scaled_layers(blocks_by_stage=(1, 3, 10, 10, 5), pairs=3)
    assert fill_golden(network, layers, GAIN) == 99_847_037
    assert parameter_count(network) == 99_751_053
    # 221.885 in convolutions; 29 residual sums and three pools at 640 px are 0.101.
    assert giga_flops(network, 640) == pytest.approx(221.885 + 0.101, abs=1e-3)
    assert_golden(inner_maps(network.set_train(False), X_PARTS), X_MISH)


@pytest.mark.slow
def test_neck_keeps_strides_and_halves_channels(graph_mode: None) -> None:
    model = ModelConfig("yolov4-csp", width=0.125)
    neck = CSPPathAggregation((32, 64, 128), model, STYLE).set_train(False)
    maps = [np.ones((1, c, s, s), np.float32) for c, s in ((32, 8), (64, 4), (128, 2))]
    outputs = neck(*(Tensor(m) for m in maps))
    assert neck.out_channels == (16, 32, 64)
    assert [o.shape for o in outputs] == [(1, 16, 8, 8), (1, 32, 4, 4), (1, 64, 2, 2)]


def test_x_is_wider_and_deeper_from_the_first_stage_on() -> None:
    model = ModelConfig("yolov4x-mish", width=0.1, depth=0.5)
    network = YoloV4(model, num_classes=3)
    assert network.backbone.stem.conv.weight.shape == (8, 3, 3, 3)  # 32 * 0.1, rounded up
    assert network.backbone.out_channels == (32, 64, 128)  # 0.125 of 256, 512, 1024
    stages = (network.backbone.stage2, network.backbone.stage3, network.backbone.stage5)
    assert [len(stage.blocks) for stage in stages] == [2, 5, 2]
    assert len(network.neck.topdown4.main) == 6
    assert network.head.predict5.weight.shape == (24, 128, 1, 1)

"""YOLOv4 against outputs and sizes that darknet reports."""

from collections.abc import Iterator
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import conv_style
from mindyolo_v4.models.yolov4 import YoloV4, YoloV4Head
from tests.models.golden import assert_golden, fill_golden, golden_image, uniform, yolov4_layers

GOLDEN = {  # idx: mean, std, largest absolute value, first three values, last value
    0: (0.289713, 0.566607, 3.58883, 0.121756, -0.237427, -0.0948281, -0.279952),
    1: (0.0974279, 0.412244, 2.7065, 0.0227208, -0.0979473, -0.154782, 0.197702),
    2: (0.156842, 0.389614, 3.1567, 0.173536, -0.0915773, -0.242759, 0.210049),
    4: (0.0999118, 0.3423, 2.82432, -0.204559, -0.214442, -0.291475, 0.120077),
    7: (0.144226, 0.415906, 2.8917, -0.291161, 0.0373165, -0.330558, 0.177486),
    8: (0.106886, 0.324286, 2.65487, 0.0169259, 0.0833301, 0.411308, -0.162113),
    10: (0.0936246, 0.354569, 3.34719, -0.0924719, -0.229843, -0.138801, 0.253295),
    23: (0.0518134, 0.25774, 1.97274, 0.0527497, -0.0362271, -0.0410118, 1.27767),
    54: (0.0837694, 0.356573, 2.32568, 0.209908, -0.142188, -0.185585, -0.173165),
    85: (0.137273, 0.451783, 3.98926, -0.209796, -0.18817, -0.242536, 0.017947),
    104: (0.0653381, 0.302023, 2.71144, 0.20222, 0.0079455, -0.00714314, -0.0673856),
    107: (0.0954124, 0.171948, 0.918028, -0.00110964, -0.0020701, 0.0925772, -0.0200303),
    113: (0.198218, 0.218358, 0.918028, 0.0925772, 0.0925772, 0.0925772, -0.0200303),
    116: (0.0843455, 0.149741, 1.08433, 0.139454, 0.216279, 0.327939, -0.0145149),
    117: (0.0712162, 0.1337, 0.962, -0.00404097, 0.00916608, -0.00611025, -0.028357),
    120: (0.172248, 0.373349, 3.55091, 0.402485, 0.590549, 0.362495, -0.022787),
    136: (0.0937189, 0.180243, 1.56014, 0.284987, 0.321064, 0.383505, -0.016017),
    138: (0.00816036, 0.24774, 1.00824, -0.12602, -0.115256, -0.0609582, -0.283465),
    147: (0.0599544, 0.11159, 0.807495, 0.058887, 0.0332598, -0.00744335, 0.0396357),
    149: (-0.0088166, 0.139298, 0.660933, -0.0218852, 0.022391, 0.0340244, 0.154341),
    158: (0.0449928, 0.0884409, 0.624272, 0.0988889, -0.00269479, -0.0142744, -0.00303555),
    160: (-0.00353034, 0.118833, 0.416375, 0.205924, 0.238336, 0.190209, -0.1996),
}
NARROW = ModelConfig(width=0.25, depth=0.34)
SHALLOW = ModelConfig(width=0.25, depth=0.1)  # one block per stage


@pytest.fixture(scope="module")
def golden() -> Iterator[YoloV4]:
    """Return the full network with the golden weights, in inference mode."""
    network = YoloV4(ModelConfig(), num_classes=80)
    assert fill_golden(network, yolov4_layers()) == 64_429_405
    yield network.set_train(False)


class RawMapsLoss(nn.Cell):
    """A stand-in loss: half the mean square of every raw map, added up."""

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, images: Tensor) -> Tensor:
        total = 0.0
        for raw_map in self.network(images):
            total = total + 0.5 * (raw_map * raw_map).mean()
        return total


def test_number_generator_matches_the_published_values() -> None:
    np.testing.assert_allclose(uniform(0, 4), [0, 0.31759886, 0.19123477, 0.5232041], atol=5e-9)
    np.testing.assert_allclose(
        uniform(0x40000000, 3), [0.43533964, 0.15365487, 0.59273235], atol=5e-9
    )


@pytest.mark.slow
def test_golden_raw_maps_in_graph_mode(golden: YoloV4, graph_mode: None) -> None:
    maps = golden(golden_image(64, 96))
    assert [raw_map.shape for raw_map in maps] == [(1, 255, 8, 12), (1, 255, 4, 6), (1, 255, 2, 3)]
    assert_golden(dict(zip((138, 149, 160), maps, strict=True)), GOLDEN)


def test_golden_inner_maps_in_pynative_mode(golden: YoloV4, pynative_mode: None) -> None:
    backbone, neck, head = golden.backbone, golden.neck, golden.head
    maps = {0: backbone.stem(golden_image(64, 96))}
    maps[1] = backbone.stage1.down(maps[0])
    maps[2] = backbone.stage1.bypass(maps[1])
    maps[4] = backbone.stage1.main_in(maps[1])
    maps[7] = backbone.stage1.blocks(maps[4])
    maps[8] = backbone.stage1.main_out(maps[7])
    maps[10] = backbone.stage1(maps[0])
    maps[23] = backbone.stage2(maps[10])
    maps[54] = backbone.stage3(maps[23])
    maps[85] = backbone.stage4(maps[54])
    maps[104] = backbone.stage5(maps[85])
    maps[107] = neck.pre_spp(maps[104])
    maps[113] = neck.spp(maps[107])
    maps[116] = neck.post_spp(maps[113])
    maps[117] = neck.reduce5(maps[116])
    maps[120] = neck.lateral4(maps[85])
    maps[136], maps[147], maps[158] = neck(maps[54], maps[85], maps[104])
    maps[138], maps[149], maps[160] = head(maps[136], maps[147], maps[158])
    assert maps.keys() == GOLDEN.keys()
    assert_golden(maps, GOLDEN)


@pytest.mark.parametrize(
    ("num_classes", "count"), [(20, 64_040_001), (3, 63_948_456), (1, 63_937_686)]
)
def test_parameter_count_follows_the_number_of_classes(
    golden: YoloV4, num_classes: int, count: int
) -> None:
    expand_channels = (256, 512, 1024)
    predictions = sum(3 * (5 + num_classes) * (channels + 1) for channels in expand_channels)
    assert 63_905_376 + predictions == count
    model = ModelConfig()
    head = YoloV4Head(golden.neck.out_channels, num_classes, model, conv_style(model, "leaky"))
    parts = (golden.backbone, golden.neck, head)  # the head alone knows the classes
    assert sum(value.size for part in parts for value in part.trainable_params()) == count


def test_parameters_of_each_part(golden: YoloV4) -> None:
    def size(*parts: str) -> int:
        prefixes = tuple(f"{part}." for part in parts)
        return sum(p.size for p in golden.trainable_params() if p.name.startswith(prefixes))

    stages = [size(f"backbone.stage{number}") for number in range(1, 6)]
    assert [size("backbone.stem"), *stages] == [
        928,
        60_224,
        193_920,
        1_758_976,
        7_024_128,
        17_579_008,
    ]
    assert size("backbone") == 26_617_184
    assert size("neck.pre_spp", "neck.post_spp") == 12_066_816
    assert size("neck.reduce5", "neck.lateral4", "neck.topdown4") == 3_019_264
    assert size("neck.reduce4", "neck.lateral3", "neck.topdown3") == 755_968
    assert size("head.expand3", "head.predict3") == 360_959
    assert size("neck.down3", "neck.bottomup4") == 3_051_520
    assert size("head.expand4", "head.predict4") == 1_311_487
    assert size("neck.down4", "neck.bottomup5") == 12_197_888
    assert size("head.expand5", "head.predict5") == 4_982_015
    assert size("backbone", "neck", "head") == 64_363_101


def test_activations_are_the_architectures_unless_overridden() -> None:
    def names(model: ModelConfig) -> tuple[set[str], set[str]]:
        network = YoloV4(model, num_classes=1)
        return tuple(
            {type(cell.act).__name__ for _, cell in part.cells_and_names() if hasattr(cell, "act")}
            for part in (network.backbone, network.neck)
        )

    assert names(SHALLOW) == ({"ClippedMish"}, {"SumLeakyReLU"})
    assert names(replace(SHALLOW, architecture="yolov4-silu")) == ({"SiLU"}, {"SiLU"})
    overridden = replace(SHALLOW, backbone_activation="leaky001", neck_activation="mish")
    assert names(overridden) == ({"SumLeakyReLU"}, {"ClippedMish"})
    assert YoloV4(overridden, 1).backbone.stem.act.slope == 0.01


def test_depth_and_width_multiples() -> None:
    network = YoloV4(NARROW, num_classes=3)
    blocks = [len(stage.blocks) for stage in (network.backbone.stage1, network.backbone.stage3)]
    assert blocks == [1, 3]  # round(8 * 0.34) = 3
    assert network.backbone.out_channels == (64, 128, 256)
    assert network.head.predict5.weight.shape == (24, 256, 1, 1)


def test_topdown_kernel_changes_one_layer_only() -> None:
    shapes = [
        {
            p.name: p.shape
            for p in YoloV4(replace(SHALLOW, topdown_kernel=kernel), 3).get_parameters()
        }
        for kernel in (1, 3)
    ]
    changed = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert changed == {"neck.reduce4.conv.weight"}
    assert shapes[1]["neck.reduce4.conv.weight"] == (32, 64, 3, 3)


def test_training_and_testing_return_maps_of_the_same_form(pynative_mode: None) -> None:
    network = YoloV4(NARROW, num_classes=3)
    image = golden_image(64, 64)
    shapes = [[m.shape for m in network.set_train(training)(image)] for training in (False, True)]
    assert shapes[0] == shapes[1] == [(1, 24, 8, 8), (1, 24, 4, 4), (1, 24, 2, 2)]


def test_training_gradient_reaches_every_parameter(pynative_mode: None) -> None:
    network = YoloV4(SHALLOW, num_classes=3).set_train()
    fill_narrow(network)
    weights = ms.ParameterTuple(network.trainable_params())
    value, gradients = ms.value_and_grad(RawMapsLoss(network), None, weights)(two_images())
    assert np.isfinite(float(value))
    for parameter, gradient in zip(weights, gradients, strict=True):
        largest = float(gradient.abs().max())
        assert np.isfinite(largest) and largest > 0, parameter.name
    moved = network.neck.bottomup5[4].bn.moving_variance.asnumpy()
    assert np.all(moved != 1.0)


@pytest.mark.slow
def test_gradient_is_the_same_in_both_modes() -> None:
    # Inference statistics: those of the 2 x 2 x 2 values of the deepest maps are ill-conditioned.
    network = YoloV4(SHALLOW, num_classes=3).set_train(False)
    fill_narrow(network)
    weights = ms.ParameterTuple(network.trainable_params())
    gradient = ms.value_and_grad(RawMapsLoss(network), None, weights)
    before = ms.get_context("mode")
    results = []
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        ms.set_context(mode=mode)
        results.append(gradient(two_images()))
    ms.set_context(mode=before)
    (graph_value, graph), (pynative_value, pynative) = results
    assert float(graph_value) == pytest.approx(float(pynative_value), rel=1e-5)
    for parameter, first, second in zip(weights, graph, pynative, strict=True):
        first, second = first.asnumpy(), second.asnumpy()
        np.testing.assert_allclose(
            first, second, rtol=0, atol=1e-4 * np.abs(second).max(), err_msg=parameter.name
        )


def two_images() -> Tensor:
    """Return a batch (2, 3, 64, 64)."""
    return Tensor(uniform(0x40000000, 2 * 3 * 64 * 64).astype(np.float32).reshape(2, 3, 64, 64))


def fill_narrow(network: nn.Cell) -> None:
    """Fill the convolutions with seeded values of a size that keeps signals alive."""
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if parameter.name.endswith("weight"):
            bound = np.sqrt(4 / np.prod(parameter.shape[1:]))
            values = rng.uniform(-bound, bound, parameter.shape)
            parameter.set_data(Tensor(values, ms.float32))

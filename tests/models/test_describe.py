"""Parameter counts and operations as darknet's own console reports them."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.models.classifier import CSPDarknet53Classifier
from mindyolo_v4.models.describe import (
    describe_network,
    giga_flops,
    mega_activations,
    parameter_count,
)
from mindyolo_v4.models.yolov4 import YoloV4
from mindyolo_v4.models.yolov4_tiny import YoloV4Tiny

SIZES = (224, 256, 320, 416, 512, 608)
NETWORKS = [  # cell, architecture, classes, parameters, 10^9 operations by size
    (YoloV4, "yolov4", 80, 64_363_101, (17.436, 22.774, 35.584, 60.137, 91.095, 128.459)),
    (YoloV4Tiny, "yolov4-tiny", 80, 6_056_606, (2.004, 2.617, 4.089, 6.910, 10.468, 14.761)),
    (
        CSPDarknet53Classifier,
        "cspdarknet53",
        1000,
        27_642_184,
        (10.008, 13.071, 20.422, 34.511, 52.276, 73.717),
    ),
]


@pytest.mark.parametrize(
    ("cell", "architecture", "num_classes", "parameters", "operations"), NETWORKS
)
def test_published_sizes(
    cell: type[nn.Cell],
    architecture: str,
    num_classes: int,
    parameters: int,
    operations: tuple[float, ...],
) -> None:
    network = cell(ModelConfig(architecture=architecture), num_classes)
    assert parameter_count(network) == parameters
    assert [round(giga_flops(network, size), 3) for size in SIZES] == list(operations)


@pytest.mark.parametrize(("accumulate", "is_said"), [(1, True), (2, False)])
def test_cmbn_with_one_micro_batch_is_said_to_be_bn(accumulate: int, is_said: bool) -> None:
    model = ModelConfig(architecture="yolov4-tiny", width=0.0625, norm="cmbn")
    config = Config(model=model, train=TrainConfig(accumulate=accumulate))
    line = describe_network(config, YoloV4Tiny(model, 2))[0]
    assert ("with one micro-batch per step are those of bn" in line) == is_said


def test_outputs_of_the_convolutions_of_yolov4_tiny() -> None:
    """Side x side x channels of each convolution of yolov4-tiny.cfg at 416 px."""
    outputs = {
        208: [32],
        104: [64, 64, 32, 32, 64],
        52: [128, 64, 64, 128],
        26: [256, 128, 128, 256, 256, 255],
        13: [512, 256, 512, 255, 128],
    }
    values = sum(side**2 * sum(channels) for side, channels in outputs.items())
    network = YoloV4Tiny(ModelConfig(architecture="yolov4-tiny"), 80)
    assert mega_activations(network, 416) == pytest.approx(values / 1e6)


def test_outputs_of_a_size_that_is_no_multiple_of_32() -> None:
    """A classifier of 80 px ends in 3 x 3 cells; its convolutions say how many values they made."""
    network = CSPDarknet53Classifier(ModelConfig("cspdarknet53", width=0.0625, depth=0.125), 3)
    made: list[tuple[int, ...]] = []
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.register_forward_hook(lambda *called: made.append(called[-1].shape))
    network.set_train(False)(Tensor(np.zeros((1, 3, 80, 80), np.float32)))
    assert made[-1][2:] == (3, 3)
    values = sum(int(np.prod(shape)) for shape in made)
    assert mega_activations(network, 80) == pytest.approx(values / 1e6)

"""Networks by name."""

import pytest

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.classifier import CSPDarknet53Classifier
from mindyolo_v4.models.yolov4 import YoloV4
from mindyolo_v4.models.yolov4_tiny import YoloV4Tiny


@pytest.mark.parametrize(
    ("architecture", "cell"),
    [
        *(("yolov4", YoloV4), ("yolov4-silu", YoloV4), ("yolov4-csp", YoloV4)),
        *(("yolov4x-mish", YoloV4), ("yolov4-tiny", YoloV4Tiny), ("yolov4-tiny-3l", YoloV4Tiny)),
    ],
)
def test_detectors_are_built_and_initialised(architecture: str, cell: type) -> None:
    network = build_network(
        ModelConfig(architecture=architecture, width=0.25, depth=0.1, objectness_prior=0.5), 2
    )
    assert type(network) is cell
    assert network.head.predict5.weight.shape[0] == 3 * 7
    assert float(network.head.predict5.bias.abs().max()) == 0  # log(0.5 / 0.5)


def test_the_classifier_is_built() -> None:
    network = build_network(ModelConfig(architecture="cspdarknet53", width=0.25, depth=0.1), 10)
    assert type(network) is CSPDarknet53Classifier
    assert network.fc.weight.shape == (10, 256)

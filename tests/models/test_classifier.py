"""The CSPDarknet53 classifier against darknet's own outputs."""

from collections.abc import Iterator

import pytest
from mindspore import ops

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.classifier import CSPDarknet53Classifier
from mindyolo_v4.models.yolov4 import YoloV4
from tests.models.golden import assert_golden, classifier_layers, fill_golden, golden_image

GOLDEN = {  # idx: mean, std, largest absolute value, first three values, last value
    0: (0.289964, 0.56691, 3.86245, 0.0910878, -0.269859, 0.0674794, -0.213407),
    10: (0.0939818, 0.356716, 3.33449, -0.105153, -0.170461, -0.145224, 0.364619),
    23: (0.0532931, 0.259467, 1.82148, 0.00932779, -0.00575637, -0.0740307, 1.73883),
    54: (0.0802029, 0.346884, 2.50846, 0.0785454, -0.177565, -0.190575, -0.143885),
    85: (0.102963, 0.383826, 3.61252, -0.20929, -0.198409, -0.23394, 0.0128645),
    104: (0.040461, 0.227342, 1.90327, 0.145702, -0.0616693, -0.0759338, -0.0153293),
    106: (0.0018033, 0.212356, 0.7957, -0.223168, -0.182479, -0.0451093, -0.379923),
    107: (0.001, 0.000216997, 0.00195303, 0.000780633, 0.000813051, 0.000932774, 0.000667373),
}
MODEL = ModelConfig(architecture="cspdarknet53")


@pytest.fixture(scope="module")
def golden() -> Iterator[CSPDarknet53Classifier]:
    """Return the classifier with the golden weights, in inference mode."""
    network = CSPDarknet53Classifier(MODEL, num_classes=1000)
    assert fill_golden(network, classifier_layers()) == 27_677_512
    yield network.set_train(False)


def test_golden_logits_in_graph_mode(golden: CSPDarknet53Classifier, graph_mode: None) -> None:
    logits = golden(golden_image(64, 64))
    assert logits.shape == (1, 1000)
    assert_golden({106: logits, 107: ops.softmax(logits)}, GOLDEN)


def test_golden_inner_maps_in_pynative_mode(
    golden: CSPDarknet53Classifier, pynative_mode: None
) -> None:
    backbone = golden.backbone
    maps = {0: backbone.stem(golden_image(64, 64))}
    maps[10] = backbone.stage1(maps[0])
    maps[23] = backbone.stage2(maps[10])
    maps[54], maps[85], maps[104] = backbone(golden_image(64, 64))
    assert_golden(maps, GOLDEN)


def test_parameter_count(golden: CSPDarknet53Classifier) -> None:
    assert sum(parameter.size for parameter in golden.trainable_params()) == 27_642_184


def test_backbone_parameters_are_called_as_in_the_detector(golden: CSPDarknet53Classifier) -> None:
    def backbone_shapes(parameters: dict) -> dict[str, tuple[int, ...]]:
        return {name: p.shape for name, p in parameters.items() if name.startswith("backbone.")}

    detector = YoloV4(ModelConfig(), num_classes=1)
    shapes = backbone_shapes(golden.parameters_dict())
    assert len(shapes) == 72 * 5
    assert shapes == backbone_shapes(detector.parameters_dict())

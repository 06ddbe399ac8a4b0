"""ONNX models against the MindSpore network; the judges are onnx's checker and onnxruntime."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import mindspore as ms
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card, Preprocessing, build_card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.deploy.compare import decoded_outputs, named_outputs
from mindyolo_v4.deploy.exported import CARD_PROPERTY
from mindyolo_v4.deploy.onnx_graph import OnnxOptions, build_onnx, fold_norm
from mindyolo_v4.errors import UserError
from mindyolo_v4.evaluation.nms import non_max_suppression
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.weights.files import read_own
from tests.weights.narrow import CLASSIFIER, DETECTOR, TINY, build, random_tensors, write_own

MEAN = Preprocessing("stretch", mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0))
VARIANTS = replace(
    DETECTOR,
    topdown_kernel=3,
    stride2_padding="same",
    box_decode="square",
    scale_x_y=(2.0, 2.0, 2.0),
    bn_eps=1e-3,
    backbone_activation="leaky001",
    leaky_slope=0.2,
    anchor_masks=((0, 1), (2, 3, 4, 5), (6, 7, 8)),
)
MODELS = {
    "yolov4": DETECTOR,
    "silu": replace(DETECTOR, architecture="yolov4-silu"),
    "csp": replace(DETECTOR, architecture="yolov4-csp"),
    "x-mish": replace(DETECTOR, architecture="yolov4x-mish"),
    "tiny": TINY,
    "tiny-3l": replace(TINY, architecture="yolov4-tiny-3l"),
    "classifier": CLASSIFIER,
    "variants": VARIANTS,
    "weighted": replace(DETECTOR, residual="weighted"),
    "weighted_channel": replace(DETECTOR, residual="weighted_channel"),
}
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 96)).astype(np.float32)
STATIC = OnnxOptions((64, 96), 2)


def run(model: onnx.ModelProto, images: NDArray = IMAGES) -> dict[str, NDArray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def output_shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {
        output.name: [
            side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim
        ]
        for output in model.graph.output
    }


def made(model: ModelConfig, classes: int = 3) -> tuple[dict[str, NDArray], Card]:
    """Return random weights and their card."""
    names = tuple(f"class{number}" for number in range(classes))
    task = "classify" if model == CLASSIFIER else "detect"
    card = Card(task, model, names, 64, Preprocessing("stretch"), "test")
    return random_tensors(parameter_shapes(model, classes)), card


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_computes_what_the_network_computes(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    path = write_own(tmp_path / "net.ckpt", model, preprocessing=MEAN)
    own = read_own(Checkpoint.open(path))
    mean, std = (np.array(row).reshape(3, 1, 1) for row in (MEAN.mean, MEAN.std))
    outputs = build(path)(ms.Tensor(((IMAGES - mean) / std).astype(np.float32)))
    levels = outputs if isinstance(outputs, tuple) else (outputs,)
    expected = named_outputs([level.asnumpy() for level in levels], model.anchor_set)
    for options in (STATIC, OnnxOptions(opset=13)):
        found = run(build_onnx(own.tensors, own.card, options))
        assert list(found) == list(expected)
        for key, values in expected.items():
            assert np.abs(found[key] - values).max() < 1e-5 * np.abs(values).max()


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_classifier_of_any_size(padding: Literal["symmetric", "same"], tmp_path: Path) -> None:
    """80 px end in 5 x 5 and then 3 x 3 cells: `same` pads an odd side on both ends."""
    model = replace(CLASSIFIER, stride2_padding=padding)
    path = write_own(tmp_path / "net.ckpt", model, preprocessing=Preprocessing("crop"))
    own = read_own(Checkpoint.open(path))
    images = np.random.default_rng(2).integers(0, 256, (2, 3, 80, 80)).astype(np.float32)
    expected = build(path)(ms.Tensor(images / np.float32(255))).asnumpy()
    for options in (OnnxOptions((80, 80), 2), OnnxOptions()):
        found = run(build_onnx(own.tensors, own.card, options), images)["logits"]
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("options", [STATIC, OnnxOptions()])
@pytest.mark.parametrize("model", [TINY, VARIANTS, MODELS["csp"]])
def test_decode_and_suppression_equal_those_of_the_evaluation(
    model: ModelConfig, options: OnnxOptions
) -> None:
    tensors, card = made(model)
    settings = EvaluateConfig(conf_thres=0.15, iou_thres=0.4, max_det=7)
    whole = replace(options, nms=True, settings=settings)
    found = run(build_onnx(tensors, card, whole))
    raw_maps = list(run(build_onnx(tensors, card, options)).values())
    candidates = int((found["scores"] > settings.conf_thres).sum())
    assert 0 < len(found["selected"]) < candidates
    for image in range(2):
        single = [raw[image : image + 1] for raw in raw_maps]
        expected = decoded_outputs(single, model.anchor_set)
        boxes, scores = (found[key][image] for key in ("boxes", "scores"))
        np.testing.assert_allclose(boxes, expected["boxes"][0], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(scores, expected["scores"][0], atol=1e-6)
        for class_id in range(3):
            above = np.flatnonzero(scores[:, class_id] > settings.conf_thres)
            kept = non_max_suppression(
                boxes[above], scores[above, class_id], np.zeros(len(above), np.int64), settings
            )
            rows = found["selected"]
            mine = rows[(rows[:, 0] == image) & (rows[:, 1] == class_id), 2]
            assert sorted(mine) == sorted(above[kept])


def test_shapes_are_known_or_named() -> None:
    tensors, card = made(TINY)
    assert output_shapes(build_onnx(tensors, card, STATIC)) == {
        "map16": [2, 24, 4, 6],
        "map32": [2, 24, 2, 3],
    }
    assert output_shapes(build_onnx(tensors, card, replace(STATIC, decode=True))) == {
        "boxes": [2, 90, 4],
        "scores": [2, 90, 3],
    }
    assert output_shapes(build_onnx(tensors, card, OnnxOptions())) == {
        "map16": ["batch", 24, "height/16", "width/16"],
        "map32": ["batch", 24, "height/32", "width/32"],
    }


@pytest.mark.parametrize("opset", [13, 17, 18, 22])
def test_mish_is_an_operator_from_opset_18_on(opset: int) -> None:
    tensors, card = made(DETECTOR)
    model = build_onnx(tensors, card, replace(STATIC, opset=opset))
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert ("Mish" in operators) == (opset >= 18)
    assert ("Softplus" in operators) == (opset < 18)
    assert "BatchNormalization" not in operators
    assert [entry.version for entry in model.opset_import] == [opset]


def test_file_says_what_it_is() -> None:
    tensors, card = made(TINY)
    model = build_onnx(tensors, card, replace(STATIC, licence="MIT"))
    held = {entry.key: entry.value for entry in model.metadata_props}
    assert build_card("net.onnx", json.loads(held[CARD_PROPERTY])) == card
    assert json.loads(held["names"]) == ["class0", "class1", "class2"]
    assert held["license"] == "MIT" and held["architecture"] == "yolov4-tiny"
    assert [level["stride"] for level in json.loads(held["anchors"])] == [16, 32]
    assert json.loads(held["preprocessing"])["resize"] == "stretch"


def test_normalisation_is_folded_in_float64() -> None:
    tensors = {
        "a.bn.gamma": np.float32([2]),
        "a.bn.beta": np.float32([3]),
        "a.bn.moving_mean": np.float32([5]),
        "a.bn.moving_variance": np.float32([3.5]),
        "a.conv.weight": np.float32([[[[7]]]]),
    }
    weight, bias = fold_norm(tensors, "a", 0.5)  # factor 2 / sqrt(4) = 1
    assert weight.item() == 7 and bias.item() == -2


def test_wrong_options_are_named() -> None:
    tensors, card = made(CLASSIFIER)
    with pytest.raises(UserError, match="--decode: a classifier has no boxes"):
        build_onnx(tensors, card, OnnxOptions(decode=True))
    for opset in (12, 23):
        with pytest.raises(UserError, match="--opset: out of range"):
            OnnxOptions(opset=opset)

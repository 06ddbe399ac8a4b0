"""ONNX Runtime, OpenVINO and OpenCV compute what MindSpore computes."""

from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.deploy.backends import FOREIGN, OpenVinoBackend
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.deploy.onnx_graph import OnnxOptions
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.errors import UserError
from tests.support.exported import export
from tests.weights.narrow import CLASSIFIER, DETECTOR, TINY, write_own

MODELS = {"yolov4": DETECTOR, "tiny": TINY, "classifier": CLASSIFIER}
AT_ONCE = {"ms_mode": "pynative"}
PIXELS = np.random.default_rng(2).integers(0, 256, (3, 3, 96, 64), np.uint8)
PICTURES = [np.random.default_rng(n).integers(0, 256, (70, 90 + n, 3), np.uint8) for n in range(3)]


@pytest.fixture(scope="module", params=MODELS)
def weight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own(tmp_path_factory.mktemp("net") / "net.ckpt", MODELS[request.param])


@pytest.fixture(scope="module")
def reference(weight: Path) -> Predictor:
    return Predictor(weight, "mindspore", 0.05, 0.6, settings=AT_ONCE)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_backend_gives_the_outputs_of_mindspore(
    name: str, weight: Path, reference: Predictor
) -> None:
    backend = Predictor(weight, name, 0.05, 0.6).backend
    assert backend.name == name
    images = PIXELS if reference.card.task == "detect" else PIXELS[:, :, :64]
    for pixels in (images, images[:1], images[:, :, :64]):
        expected = reference.backend(pixels)
        found = backend(pixels)
        assert [one.shape for one in found] == [one.shape for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == np.float32
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


@pytest.mark.parametrize("name", FOREIGN)
def test_predictions_agree(name: str, weight: Path, reference: Predictor) -> None:
    found = Predictor(weight, name, 0.05, 0.6)(PICTURES, batch_size=2)
    for one, other in zip(found, reference(PICTURES), strict=True):
        assert len(one) == len(other) > 0
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        if other.boxes_xyxy_px is not None:
            np.testing.assert_allclose(one.boxes_xyxy_px, other.boxes_xyxy_px, atol=0.05)


def test_a_file_of_one_size_and_batch(tmp_path: Path) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY)
    fixed = export(weight, tmp_path / "fixed.onnx", OnnxOptions((64, 64), 2, opset=13))
    free = export(weight, tmp_path / "free.onnx")
    images = PIXELS[:, :, :64]
    for backend in (kind(ExportedFile.open(fixed), [(64, 64)]) for kind in FOREIGN.values()):
        expected = OpenVinoBackend(ExportedFile.open(free), [(64, 64)])(images)
        for one, other in zip(backend(images), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
    with pytest.raises(
        UserError, match=r"exported for another size .got 96 x 32, expected 64 x 64"
    ):
        FOREIGN["onnxruntime"](ExportedFile.open(fixed), [(32, 96)])
    with pytest.raises(UserError, match="another size"):
        FOREIGN["openvino"](ExportedFile.open(fixed), [(32, 96)])


def test_the_operator_mish(tmp_path: Path) -> None:
    weight = write_own(tmp_path / "net.ckpt", DETECTOR)
    late = export(weight, tmp_path / "late.onnx", OnnxOptions((64, 64), 1, opset=18))
    early = export(weight, tmp_path / "early.onnx")
    image = PIXELS[:1, :, :64]
    expected = FOREIGN["onnxruntime"](ExportedFile.open(early), [(64, 64)])(image)
    for kind in FOREIGN.values():
        found = kind(ExportedFile.open(late), [(64, 64)])(image)
        for one, other in zip(found, expected, strict=True):
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def test_boxes_instead_of_maps_are_refused(tmp_path: Path) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY)
    decoded = export(weight, tmp_path / "d.onnx", OnnxOptions((64, 64), 1, decode=True, opset=13))
    for kind in FOREIGN.values():
        with pytest.raises(UserError, match=r"has no raw maps .got boxes, scores"):
            kind(ExportedFile.open(decoded), [(64, 64)])


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        (OnnxOptions((64, 64), 1, decode=True, nms=True, opset=13), "NonMaxSuppression"),
        (OnnxOptions(opset=13), "Concat"),
    ],
)
def test_what_opencv_lacks(options: OnnxOptions, lacking: str, tmp_path: Path) -> None:
    file = export(write_own(tmp_path / "net.ckpt", TINY), tmp_path / "net.onnx", options)
    with pytest.raises(UserError) as error:
        FOREIGN["opencv"](ExportedFile.open(file), [(64, 64)])
    assert error.value.statement == (
        f"cannot be read by opencv: it lacks this form of the operator {lacking} "
        "(expected a file exported without --dynamic, --decode and --nms)"
    )


@pytest.mark.parametrize("name", FOREIGN)
def test_a_graph_that_is_no_graph(name: str, tmp_path: Path) -> None:
    fixed = OnnxOptions((64, 64), 1, opset=13)
    good = export(write_own(tmp_path / "net.ckpt", TINY), tmp_path / "net.onnx", fixed)
    file = ExportedFile.open(good)
    content = bytearray(good.read_bytes())
    position = content.index(b"Conv")
    content[position : position + 4] = b"Cxnv"
    good.write_bytes(content)
    with pytest.raises(UserError, match=f"cannot be read by {name}"):
        FOREIGN[name](file, [(64, 64)])

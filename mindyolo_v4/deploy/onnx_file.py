"""Exported files: how they are written, and run once by onnxruntime or OpenVINO."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.deploy.extras import import_extra

if TYPE_CHECKING:
    import onnx

Run = Callable[[NDArray[np.uint8]], dict[str, NDArray]]  # images (B, 3, H, W) -> outputs by name


def write_onnx(model: "onnx.ModelProto", path: Path) -> None:
    """Write an ONNX model."""
    path.write_bytes(model.SerializeToString())


def write_openvino(model: "onnx.ModelProto", path: Path) -> None:
    """Write an ONNX model as OpenVINO's IR."""
    save_openvino(to_openvino(model), path)


def to_openvino(model: "onnx.ModelProto") -> Any:
    """Return an ONNX model as OpenVINO's.

    Its properties become runtime information of the same names; the card, for instance, is
    `get_rt_info("mindyolo_v4.card")`.
    """
    openvino = import_extra("openvino", "openvino")
    converted = openvino.Core().read_model(BytesIO(model.SerializeToString()))
    for entry in model.metadata_props:
        converted.set_rt_info(entry.value, entry.key)
    return converted


def save_openvino(model: Any, path: Path) -> None:
    """Write OpenVINO's IR: the `.xml` at `path` and a `.bin` beside it, in the model's types."""
    openvino = import_extra("openvino", "openvino")
    openvino.save_model(model, str(path), compress_to_fp16=False)


def run_onnx(path: Path) -> Run:
    """Return a function that runs an ONNX file with onnxruntime."""
    onnxruntime = import_extra("onnxruntime", "onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray]:
        outputs = session.run(names, {"images": images.astype(np.float32)})
        return dict(zip(names, outputs, strict=True))

    return run


def run_openvino(path: Path) -> Run:
    """Return a function that runs an IR with OpenVINO, in float32 where it is not int8."""
    openvino = import_extra("openvino", "openvino")
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", precision)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray]:
        results = compiled(images.astype(np.float32))
        return {output.get_any_name(): results[output] for output in compiled.outputs}

    return run

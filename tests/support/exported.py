"""Exported files of networks with random weights, without MindSpore's compiler."""

from pathlib import Path

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.deploy.onnx_file import write_onnx, write_openvino
from mindyolo_v4.deploy.onnx_graph import OnnxOptions, build_onnx
from mindyolo_v4.weights.files import read_own


def export(weight: Path, target: Path, options: OnnxOptions | None = None) -> Path:
    """Write a checkpoint as .onnx or .xml; by default any size, for every back-end."""
    own = read_own(Checkpoint.open(weight))
    model = build_onnx(own.tensors, own.card, options or OnnxOptions(opset=13))
    write = write_openvino if target.suffix == ".xml" else write_onnx
    write(model, target)
    return target

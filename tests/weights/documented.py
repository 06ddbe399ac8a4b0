"""The foreign files that docs/weights.md speaks of, narrow."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import layers_of
from mindyolo_v4.weights.coco_names import COCO_NAMES
from mindyolo_v4.weights.darknet_cfg import write_cfg
from mindyolo_v4.weights.darknet_file import write_weights
from mindyolo_v4.weights.mapping import export_tensors
from mindyolo_v4.weights.mindspore_zoo import CLASSIFIER as ZOO
from mindyolo_v4.weights.mindyolo import SCHEME as MINDYOLO
from mindyolo_v4.weights.schemes import Scheme
from mindyolo_v4.weights.torch_schemes import TIANXIAOMO, TIMM
from tests.weights.foreign import write_mindspore
from tests.weights.narrow import Tensors, random_tensors
from tests.weights.torch_files import write_zip

DETECTOR = ModelConfig("yolov4", width=0.1, depth=0.1)  # as test_documents trains
BACKBONE = ModelConfig("cspdarknet53", width=0.1, depth=0.1)
PUBLISHED = "yolov4-cspdarknet53_320e_map454-64b8506f-910v2.ckpt"


def write_documented(folder: Path) -> None:
    """Write every file that the documented commands read, and the class names beside them."""
    folder.mkdir()
    (folder.parent / "coco.names").write_text("\n".join(COCO_NAMES) + "\n")
    darknet_files(folder, "yolov4", DETECTOR, 80, "conv.137")
    darknet_files(folder, "csdarknet53-omega", BACKBONE, 10, "conv.105")
    write_mindspore(folder / "cspdarknet53_zoo.ckpt", foreign(ZOO, BACKBONE, 10), "network.")
    with_3x3 = replace(DETECTOR, topdown_kernel=3)
    write_mindspore(folder / PUBLISHED, foreign(MINDYOLO, with_3x3, 80))
    write_mindspore(folder / "yolov4-silu.ckpt", foreign(MINDYOLO, with_3x3, 80))
    write_zip(folder / "yolov4.pth", foreign(TIANXIAOMO, DETECTOR, 80))
    safetensors.numpy.save_file(foreign(TIMM, BACKBONE, 10), folder / "timm.safetensors")


def foreign(scheme: Scheme, model: ModelConfig, classes: int) -> Tensors:
    """Return random weights of a network as a format names them."""
    layers = layers_of(model, classes)
    tensors = random_tensors(
        {name: shape for layer in layers for name, shape in layer.shapes().items()}
    )
    return {
        name: np.ascontiguousarray(v)
        for name, v in export_tensors(tensors, scheme, layers, "test").items()
    }


def darknet_files(folder: Path, stem: str, model: ModelConfig, classes: int, partial: str) -> None:
    """Write a network's .weights with its .cfg, and its first sections."""
    layers = layers_of(model, classes)
    tensors = random_tensors(
        {name: shape for layer in layers for name, shape in layer.shapes().items()}
    )
    (folder / f"{stem}.cfg").write_text(write_cfg(model, classes, 64, letterbox=False))
    first = tuple(layer for layer in layers if layer.idx < int(partial.removeprefix("conv.")))
    for name, held in ((f"{stem}.weights", layers), (f"{stem}.{partial}", first)):
        write_weights(folder / name, struct.pack("<3iQ", 0, 2, 5, 32_000), held, tensors)

"""Static quantisation of an exported detector to int8.

onnxruntime puts pairs of QuantizeLinear and DequantizeLinear (QDQ) around the convolutions; their
weights have one scale per output channel. NNCF does the same to OpenVINO's IR. The predictions of
the heads stay float32: their outputs are logits, in which int8 would leave few different scores.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.images import ImageReadError, channels_first, decode_image, fit_image
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.deploy.extras import import_extra
from mindyolo_v4.deploy.onnx_file import save_openvino, to_openvino
from mindyolo_v4.errors import UserError

if TYPE_CHECKING:
    import onnx

QUANTISED = ("Conv", "MaxPool", "Concat", "Add", "Resize")
Images = Sequence[NDArray[np.uint8]]  # (1, 3, H, W) each


class _Reader:
    """Hands images to onnxruntime, one after the other."""

    def __init__(self, images: Images):
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input by name; None after the last one."""
        image = next(self._images, None)
        return None if image is None else _input(image)


def _input(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    return {"images": image.astype(np.float32)}


def input_of(record: ImageRecord, data: DataConfig) -> NDArray[np.uint8]:
    """Return an image of a data set as network input (1, 3, H, W)."""
    try:
        pixels = record.encoded()
        image = decode_image(pixels, record.path, max_megapixels=data.max_megapixels)
    except ImageReadError as error:
        raise UserError(record.path, "cannot be read, and int8 needs every image") from error
    return channels_first(fit_image(image, data))[None]


def quantise_onnx(model: "onnx.ModelProto", path: Path, images: Images) -> None:
    """Write a quantised ONNX model; activations are measured on the images."""
    library = import_extra("onnxruntime.quantization", "onnx")
    # onnxruntime asks for its own pre-processing otherwise: here normalisation is folded already.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    heads = [node.name for node in model.graph.node if node.name.startswith("map")]
    library.quantize_static(
        model,
        str(path),
        _Reader(images),
        quant_format=library.QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        nodes_to_exclude=heads,
        per_channel=True,
        # Weights of 7 bits: processors without VNNI add two products in 16 bits, which saturate.
        reduce_range=True,
    )


def quantise_openvino(model: "onnx.ModelProto", path: Path, images: Images) -> None:
    """Write a quantised IR of an ONNX model; activations are measured on the images."""
    nncf = import_extra("nncf", "openvino")
    nncf.set_log_level(logging.ERROR)
    quantised = nncf.quantize(
        to_openvino(model),
        nncf.Dataset(list(images), _input),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(patterns=["^map.*"]),
    )
    save_openvino(quantised, path)


def evenly(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """Return at most `count` records, spread evenly over all."""
    picked = np.linspace(0, len(records) - 1, min(count, len(records)))
    return [records[int(number)] for number in picked.round()]

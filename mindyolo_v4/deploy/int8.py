"""Static quantisation of an exported detector to int8, and its AP beside that of float32.

onnxruntime puts pairs of QuantizeLinear and DequantizeLinear (QDQ) around the convolutions; their
weights have one scale per output channel. OpenVINO reads the same nodes. The predictions of the
heads stay float32: their outputs are logits, in which int8 would leave few different scores.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import ImageReadError, channels_first, fit_image, read_image
from mindyolo_v4.data.records import Dataset, ImageRecord
from mindyolo_v4.deploy.extras import import_extra
from mindyolo_v4.deploy.onnx_file import Run
from mindyolo_v4.errors import UserError
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.nms import detect_objects

QUANTISED = ("Conv", "MaxPool", "Concat", "Add", "Resize")


class CalibrationImages:
    """The images that onnxruntime measures activations on, one after the other."""

    def __init__(self, records: Sequence[ImageRecord], data: DataConfig):
        self._inputs: Iterator[NDArray[np.uint8]] = (input_of(record, data) for record in records)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input by name; None after the last one."""
        images = next(self._inputs, None)
        return None if images is None else {"images": images.astype(np.float32)}


def input_of(record: ImageRecord, data: DataConfig) -> NDArray[np.uint8]:
    """Return an image of a data set as network input (1, 3, H, W)."""
    try:
        image = read_image(record.path, data.max_megapixels)
    except ImageReadError as error:
        raise UserError(record.path, "cannot be read, and int8 needs every image") from error
    return channels_first(fit_image(image, data))[None]


def quantise(source: Path, target: Path, images: CalibrationImages) -> None:
    """Write an int8 model of the float32 model `source`."""
    onnx = import_extra("onnx", "onnx")
    library = import_extra("onnxruntime.quantization", "onnx")
    model = onnx.load(str(source))
    heads = [node.name for node in model.graph.node if node.name.startswith("map")]
    library.quantize_static(
        str(source),
        str(target),
        images,
        quant_format=library.QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        nodes_to_exclude=heads,
        per_channel=True,
    )


def average_precision(run: Run, config: Config, dataset: Dataset) -> float:
    """Return the AP of a file with raw maps as outputs."""
    anchors = config.model.anchor_set
    data = config.data
    evaluator = CocoEvaluator(dataset)
    bar = tqdm(dataset.records, unit="image", disable=None)
    for index, record in enumerate(bar):
        outputs = run(input_of(record, data))
        raw_maps = [outputs[f"map{level.stride}"][0] for level in anchors.levels]
        geometry = resize_geometry(
            data.resize, record.width, record.height, data.img_size, data.img_height
        )
        found = detect_objects(raw_maps, anchors, config.evaluate)
        evaluator.add(index, found.to_original(geometry))
    return float(evaluator.metrics()["AP"])


def evenly(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """Return at most `count` records, spread evenly over all."""
    picked = np.linspace(0, len(records) - 1, min(count, len(records)))
    return [records[int(number)] for number in picked.round()]

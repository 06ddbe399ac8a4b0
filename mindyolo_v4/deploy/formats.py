"""Writers of the exported formats; each compares its file with the network before it stays."""

from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.settings import require_same_classes
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.deploy import compare, int8
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.deploy.onnx_file import run_onnx, run_openvino, write_onnx, write_openvino
from mindyolo_v4.deploy.onnx_graph import OnnxOptions, build_onnx, metadata
from mindyolo_v4.deploy.opening import open_backend
from mindyolo_v4.deploy.scoring import score_backend
from mindyolo_v4.errors import UserError, require, require_range
from mindyolo_v4.models.forward import InferenceForward, inference
from mindyolo_v4.weights import darknet, verify
from mindyolo_v4.weights.files import Own, as_tensor, output_file, read_own

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class ExportOptions:
    """What the user chose; each field is an option of export.py."""

    dynamic: bool = False
    decode: bool = False
    nms: bool = False
    opset: int = OnnxOptions.opset
    uint8: bool = False
    int8: bool = False
    calibration: int = 128  # images
    max_drop: float = 0.01  # of AP
    force: bool = False
    tolerance: float = 1e-4  # of the largest magnitude of an output
    license: str = "Apache-2.0"

    def __post_init__(self) -> None:
        require_range("--calibration", self.calibration, 1)
        require_range("--max_drop", self.max_drop, 0.0, 1.0)
        require_range("--tolerance", self.tolerance, 0.0, open_low=True)


@dataclass(frozen=True, eq=False)
class Job:
    """What is exported, where to, and the image to compare on."""

    format: str
    checkpoint: Checkpoint
    own: Own  # its weights; the card has the input size of the file
    config: Config
    options: ExportOptions
    target: Path
    images: NDArray[np.uint8]  # (1, 3, H, W)
    source: str  # of the image, in words


def _forward(job: Job) -> InferenceForward:
    """Return the network with the normalisation of its input."""
    ms.set_device("CPU")
    # Nothing to compile for one image, and the network is built of stock operators only.
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return inference(job.config, load_network(job.checkpoint, None))


def _outputs_of(cell: nn.Cell, images: ms.Tensor, job: Job) -> dict[str, NDArray]:
    """Run a cell; return its outputs by the names that they have in an exported file."""
    outputs = cell(images)
    levels = outputs if isinstance(outputs, tuple) else (outputs,)
    arrays = [level.asnumpy() for level in levels]
    return compare.named_outputs(arrays, job.config.model.anchor_set)


def _require_equal(job: Job, found: compare.Arrays, expected: compare.Arrays) -> str:
    """Return in words how equal a file is. Raises UserError where it differs too much."""
    worst = verify.largest_difference(found, expected)
    compare.require_equal(worst, job.options.tolerance, job.target)
    text = f"equal to the network on {job.source}, largest difference {worst:.1e}"
    return f"{text} (tolerance {job.options.tolerance:g})"


@contextmanager
def _unfinished_file(job: Job) -> Iterator[Path]:
    """Yield the name to write to; an IR gets its `.bin` beside it."""
    with ExitStack() as files:
        if job.format == "openvino":
            files.enter_context(output_file(job.target.with_suffix(".bin")))
        yield files.enter_context(output_file(job.target))


def export_graph(job: Job) -> str:
    """Write an ONNX model or OpenVINO's IR of it."""
    chosen = job.options
    data = job.config.data
    is_dynamic = chosen.dynamic
    wants_boxes = chosen.decode or chosen.nms
    options = OnnxOptions(
        size_hw_px=None if is_dynamic else (data.img_height or data.img_size, data.img_size),
        batch=None if is_dynamic else 1,
        decode=wants_boxes,
        nms=chosen.nms,
        opset=chosen.opset,
        settings=job.config.evaluate,
        licence=chosen.license,
    )
    model = build_onnx(job.own.tensors, job.own.card, options)
    expected = _outputs_of(_forward(job), ms.Tensor(job.images), job)
    if wants_boxes:
        raw_maps = list(expected.values())
        expected = compare.decoded_outputs(raw_maps, job.config.model.anchor_set)
    write, _, run, _ = _ENGINES[job.format]
    if chosen.int8:
        return _write_int8(job, model, expected)
    with _unfinished_file(job) as unfinished:
        write(model, unfinished)
        return _require_equal(job, run(unfinished)(job.images), expected)


def _write_int8(job: Job, model: "onnx.ModelProto", expected: compare.Arrays) -> str:
    """Write a quantised model; its AP stands beside that of the float32 model."""
    config = replace(job.config, data=located(job.config.data))
    scored = read_split(config.data, config.evaluate.split)
    require_same_classes(job.checkpoint, scored.class_names, scored.source)
    measured = scored if config.data.train is None else read_split(config.data, "train")
    records = int8.evenly(measured.records, job.options.calibration)
    images = [int8.input_of(record, config.data) for record in records]
    write, quantise, run, backend = _ENGINES[job.format]
    with TemporaryDirectory(dir=job.target.parent) as folder, _unfinished_file(job) as unfinished:
        exact = Path(folder) / f"float32{job.target.suffix}"
        write(model, exact)
        _require_equal(job, run(exact)(job.images), expected)
        quantise(model, unfinished, images)
        before = average_precision(exact, backend, config, scored)
        after = average_precision(unfinished, backend, config, scored)
        text = f"AP {before:.4f} in float32, {after:.4f} in int8, {scored.source}"
        print(f"{text}, calibrated on {len(records)} images of {measured.source}")
        limit = job.options.max_drop
        problem = f"was not written: int8 loses too much ({text})"
        expected_text = f"at most {limit:g}, or --force"
        good = before - after <= limit or job.options.force
        require(good, job.target, problem, f"{before - after:.4f}", expected_text)
    return f"int8, AP {before:.4f} -> {after:.4f}"


def average_precision(path: Path, backend: str, config: Config, dataset: Dataset) -> float:
    """Return the AP of an exported file, as `test.py --backend` scores it.

    Raises:
        UserError: an image cannot be read, or there is no box to score on.
    """
    opened = open_backend(backend, ExportedFile.open(path), config)
    metrics = score_backend(opened, config, dataset, lambda: None).metrics
    problem = "has images that cannot be read, and int8 needs every image"
    require(metrics["unreadable"] == 0, dataset.source, problem)
    score = metrics["AP"]
    if score is None:
        raise UserError(dataset.source, "has no boxes, and int8 is judged by AP")
    return score


def export_mindir(job: Job) -> str:
    """Write MindSpore's own graph."""
    forward = _forward(job)
    images = ms.Tensor(job.images)
    expected = _outputs_of(forward, images, job)
    cell = forward
    if not job.options.uint8:
        cell = forward.network
        images = forward.normalise(images)
    properties = metadata(job.own.card, job.options.license)

    def describe(model: Any) -> None:
        if isinstance(model.user_info, MutableMapping):
            model.user_info.update(properties)
            return
        # Newer protobuf takes MindSpore's map for a list of its pairs.
        for name, text in properties.items():
            model.user_info.add(key=name, value=text)

    ms.set_context(mode=ms.GRAPH_MODE)
    with output_file(job.target) as unfinished, TemporaryDirectory() as folder:
        # MindSpore refuses paths with blanks, or with other letters than those of ASCII.
        plain = Path(folder) / "network.mindir"
        ms.export(cell, images, file_name=str(plain), file_format="MINDIR", custom_func=describe)
        copyfile(plain, unfinished)
        found = _outputs_of(nn.GraphCell(ms.load(str(unfinished))), images, job)
        return _require_equal(job, found, expected)


def export_darknet(job: Job) -> str:
    """Write darknet's files with the converter, and compare them as `convert.verify` does."""
    own = replace(job.own, card=job.checkpoint.card)
    with darknet.unfinished_files(job.target, own) as (weights, cfg):
        if own.card.model.residual != "plain":
            return "not compared, since OpenCV cannot run weighted residual sums"
        image = job.images.astype(np.float32) / 255
        is_good = verify.is_equal(job.checkpoint, cfg, weights, image, job.options.tolerance)
        require(is_good, job.target, "was not written: OpenCV computes something else of it")
    return f"equal to the network on {job.source}"


def export_checkpoint(job: Job) -> str:
    """Write the weights alone, averaged where there are averages, with the card."""
    tree = {name: value for name, value in job.checkpoint.tree.items() if name != "training"}
    tensors = {name: as_tensor(value) for name, value in job.own.tensors.items()}
    with output_file(job.target) as unfinished:
        save(unfinished, tensors, tree)
        held = read_own(Checkpoint.open(unfinished)).tensors
        for name, values in job.own.tensors.items():
            is_same = np.array_equal(held[name], values)
            require(is_same, job.target, "was not written: it holds another value", name)
    return f"the same {len(held)} tensors, without optimizer and averages"


_ENGINES = {  # format -> how a model is written, quantised and run, and the back-end that scores it
    "onnx": (write_onnx, int8.quantise_onnx, run_onnx, "onnxruntime"),
    "openvino": (write_openvino, int8.quantise_openvino, run_openvino, "openvino"),
}

"""Cases of tests/test_inputs.py: options of export.py."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.inputs.commands import checkpoint, data_set
from tests.support.inputs import Case
from tests.weights.narrow import CLASSIFIER, write_own

Writer = Callable[[Path], Sequence[object]]


def export(*options: str, classifier: bool = False) -> Writer:
    """Export a narrow yolov4-tiny, or a classifier."""

    def write(folder: Path) -> Sequence[object]:
        weight = folder / "net.ckpt"
        if classifier:
            write_own(weight, CLASSIFIER)
        else:
            checkpoint(weight)
        (folder / "text.txt").write_text("no picture")
        filled = [text.format(dir=folder) for text in options]
        return "export.py", "--weight", weight, *filled

    return write


def without_weight(folder: Path) -> Sequence[object]:
    return "export.py", "--format", "onnx"


def int8_without_boxes(folder: Path) -> Sequence[object]:
    weight = checkpoint(folder / "net.ckpt")
    data_set(folder / "set", row="")
    data = "--data_dir", folder / "set", "--data.format", "yolo", "--data.val", "images/val"
    rest = "--data.names", "[cat, dog]", "--int8"
    return "export.py", "--weight", weight, "--format", "onnx", *data, *rest


KIND = "Options of export.py"
ONNX = ("--format", "onnx")
CASES = [
    Case(KIND, "no checkpoint", without_weight, 2, "--weight: missing"),
    Case(KIND, "an unknown format", export("--format", "tflite"), 2, "invalid choice: 'tflite'"),
    Case(
        KIND,
        "an option that the format does not have",
        export("--format", "darknet", "--nms"),
        2,
        "--nms: has no meaning with --format darknet",
    ),
    Case(
        KIND,
        "a tolerance of a slim checkpoint, which is the same",
        export("--format", "ckpt", "--tolerance", "1e-3"),
        2,
        "--tolerance: has no meaning with --format ckpt",
    ),
    Case(
        KIND,
        "a licence that nothing states",
        export("--format", "darknet", "--license", "MIT"),
        2,
        "--license: has no meaning with --format darknet and without --card",
    ),
    Case(
        KIND,
        "a threshold of raw maps",
        export(*ONNX, "--conf_thres", "0.3"),
        2,
        "evaluate.conf_thres: has no meaning without --nms or --int8",
    ),
    Case(
        KIND,
        "another suppression than ONNX's",
        export(*ONNX, "--nms", "--evaluate.nms", "diou"),
        2,
        "evaluate.nms: is not what ONNX's suppression does (got diou, expected iou)",
    ),
    Case(
        KIND,
        "ONNX's suppression for one class per cell",
        export(*ONNX, "--nms", "--evaluate.multi_label", "False"),
        2,
        "evaluate.multi_label: is not what ONNX's suppression does (got False, expected True)",
    ),
    Case(
        KIND,
        "an operator set that is not supported",
        export(*ONNX, "--opset", "9"),
        2,
        "--opset: out of range (got 9, expected >= 13 and <= 22)",
    ),
    Case(
        KIND,
        "a size that is none",
        export(*ONNX, "--img_size", "big"),
        2,
        "--img_size: is not a size (got big, expected N or H,W in pixels)",
    ),
    Case(
        KIND,
        "a size that is not a multiple of 32",
        export(*ONNX, "--img_size", "64,100"),
        2,
        "data.img_size: not a multiple of 32 (got 100)",
    ),
    Case(
        KIND,
        "any size and one size",
        export(*ONNX, "--img_size", "64", "--dynamic"),
        2,
        "--img_size: contradicts --dynamic",
    ),
    Case(
        KIND,
        "boxes of a classifier",
        export(*ONNX, "--decode", classifier=True),
        2,
        "--decode: a classifier has no boxes",
    ),
    Case(
        KIND,
        "int8 with boxes",
        export(*ONNX, "--int8", "--decode"),
        2,
        "--decode: has no meaning with --int8",
    ),
    Case(KIND, "int8 without a data set", export(*ONNX, "--int8"), 2, "data.root: missing"),
    Case(
        KIND,
        "int8 on a split without boxes",
        int8_without_boxes,
        2,
        "{dir}/set/images/val: has no boxes, and int8 is judged by AP",
    ),
    Case(
        KIND,
        "a negative tolerance",
        export(*ONNX, "--tolerance", "-1"),
        2,
        "--tolerance: out of range (got -1.0, expected > 0)",
    ),
    Case(
        KIND,
        "a drop of AP above 1",
        export(*ONNX, "--int8", "--max_drop", "2"),
        2,
        "--max_drop: out of range (got 2.0, expected >= 0 and <= 1)",
    ),
    Case(
        KIND,
        "no image to calibrate on",
        export(*ONNX, "--int8", "--calibration", "0"),
        2,
        "--calibration: out of range (got 0, expected >= 1)",
    ),
    Case(
        KIND,
        "an image that is none",
        export(*ONNX, "--image", "{dir}/text.txt"),
        2,
        "--image: cannot be read: ",
    ),
    Case(
        KIND,
        "an output of another format",
        export(*ONNX, "--output", "{dir}/net.xml"),
        2,
        "--output: must end in .onnx (got {dir}/net.xml)",
    ),
    Case(
        KIND,
        "an output in no folder",
        export(*ONNX, "--output", "{dir}/none/net.onnx"),
        2,
        "{dir}/none/net.onnx: cannot be written (got no such folder)",
    ),
    Case(
        KIND,
        "the checkpoint as output",
        export("--format", "ckpt", "--output", "{dir}/net.ckpt"),
        2,
        "{dir}/net.ckpt: is the file to read",
    ),
    Case(
        KIND,
        "metrics that are none",
        export("--format", "ckpt", "--card", "--metrics", "{dir}/text.txt"),
        2,
        "{dir}/text.txt: not readable as JSON",
    ),
    Case(
        KIND,
        "a drop of AP without int8",
        export(*ONNX, "--max_drop", "0.1"),
        2,
        "--max_drop: has no meaning without --int8",
    ),
    Case(
        KIND,
        "metrics without a card",
        export("--format", "ckpt", "--metrics", "{dir}/text.txt"),
        2,
        "--metrics: has no meaning without --card",
    ),
]

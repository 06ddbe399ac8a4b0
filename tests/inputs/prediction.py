"""Cases of tests/test_inputs.py: options of predict.py, exported files, videos."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.inputs.commands import checkpoint, data_set, picture
from tests.support.inputs import Case
from tests.support.videos import write_video

Writer = Callable[[Path], Sequence[object]]
FIXED = {"size_hw_px": (64, 64), "batch": 1, "opset": 13}


def predict(*options: str, weight: str = "net.onnx", **graph: object) -> Writer:
    """Predict a picture with an exported file; `graph` replaces options of its graph."""

    def write(folder: Path) -> Sequence[object]:
        from mindyolo_v4.deploy.onnx_graph import OnnxOptions
        from tests.support.exported import export

        net = checkpoint(folder / "net.ckpt")
        export(net, folder / weight, OnnxOptions(**(FIXED | graph)))  # type: ignore[arg-type]
        picture(folder / "a.png")
        source = () if "--source" in options else ("--source", folder / "a.png")
        words = [text.format(dir=folder) for text in options]
        save = "--save_dir", folder / "out"
        return "predict.py", "--weight", folder / weight, *source, *save, *words

    return write


def with_file(name: str, content: bytes, *options: str) -> Writer:
    """Predict a picture with a file of this content as the weight."""

    def write(folder: Path) -> Sequence[object]:
        (folder / name).write_bytes(content)
        picture(folder / "a.png")
        return "predict.py", "--weight", folder / name, "--source", folder / "a.png", *options

    return write


def other_project(folder: Path) -> Sequence[object]:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    onnx.save(helper.make_model(graph), str(folder / "their.onnx"))
    picture(folder / "a.png")
    return "predict.py", "--weight", folder / "their.onnx", "--source", folder / "a.png"


def classifier(*options: str) -> Writer:
    def write(folder: Path) -> Sequence[object]:
        from tests.support.exported import export
        from tests.weights.narrow import CLASSIFIER, write_own

        export(write_own(folder / "net.ckpt", CLASSIFIER), folder / "net.onnx")
        picture(folder / "a.png")
        words = "--source", folder / "a.png", "--save_dir", folder / "out"
        return "predict.py", "--weight", folder / "net.onnx", *words, *options

    return write


def listed(folder: Path) -> Sequence[object]:
    (folder / "list.txt").write_text("no/a.png\nno/b.png\n")
    return predict("--source", "{dir}/list.txt")(folder)


def empty_list(folder: Path) -> Sequence[object]:
    (folder / "list.txt").write_text("\n")
    return predict("--source", "{dir}/list.txt")(folder)


def binary_list(folder: Path) -> Sequence[object]:
    (folder / "list.txt").write_text("a\0b.png\n")
    return predict("--source", "{dir}/list.txt")(folder)


def video(cut: bool) -> Writer:
    def write(folder: Path) -> Sequence[object]:
        path = write_video(folder / "v.avi", frames=20, fps=10)
        if cut:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) * 2 // 3])
        return predict("--source", "{dir}/v.avi", "--stride", "5")(folder)

    return write


def video_in_place(folder: Path) -> Sequence[object]:
    write_video(folder / "v.mp4", frames=2, fps=10)
    return predict("--source", "{dir}/v.mp4", "--save_dir", "{dir}", "--exist_ok")(folder)


def save_txt_into(*files: str) -> Writer:
    """Predict {dir}/images with --save_txt, into {dir}, which has these files."""

    def write(folder: Path) -> Sequence[object]:
        for name in files:
            if name.endswith(".txt"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text("0 0.5 0.5 0.1 0.1\n")
            else:
                picture(folder / name)
        words = predict("--source", "{dir}/images", "--save_dir", "{dir}")(folder)
        return *words, "--exist_ok", "--save_txt", "--no_draw"

    return write


def score(*options: str) -> Writer:
    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set", "0 0.5 0.5 0.4 0.6\n", 1)
        words = predict()(folder)
        data = "--data_dir", folder / "set", "--data.format", "yolo", "--data.val", "images/val"
        return "test.py", *words[1:3], *data, "--save_dir", folder / "out", *options

    return write


def benchmark(*options: str) -> Writer:
    def write(folder: Path) -> Sequence[object]:
        return "benchmark_backends", *predict()(folder)[1:3], *options

    return write


NO_BOXES = "a classifier has no boxes"
UNKNOWN = "argument --backend: invalid choice: 'tensorrt' (choose from "
REFUSED: list[tuple[str, Writer, str]] = [
    ("`--backend tensorrt`", predict("--backend", "tensorrt"), UNKNOWN),
    ("test.py with `--backend tensorrt`", score("--backend", "tensorrt"), UNKNOWN),
    ("`--stride 0`", predict("--stride", "0"), "--stride: out of range (got 0, expected >= 1)"),
    (
        "`--stride` for images",
        predict("--stride", "2"),
        "--stride: is for videos, cameras and streams (got 2)",
    ),
    (
        "`--stride` of a word",
        predict("--stride", "two"),
        "argument --stride: invalid int value: 'two'",
    ),
    ("`--max_det 0`", predict("--max_det", "0"), "evaluate.max_det: out of range"),
    (
        "`--classes` of another class",
        predict("--classes", "cat,horse"),
        "--classes: there is no such class (got horse, expected cat, dog, or 0 to 1)",
    ),
    ("`--save_txt` with a classifier", classifier("--save_txt"), f"--save_txt: {NO_BOXES}"),
    ("`--save_crop` with a classifier", classifier("--save_crop"), f"--save_crop: {NO_BOXES}"),
    (
        "a video in the folder of the results",
        video_in_place,
        "--save_dir: what is drawn would replace {dir}/v.mp4 of --source (got {dir})",
    ),
    (
        "`--save_txt` into a data set with labels",
        save_txt_into("images/a.png", "labels/a.txt"),
        "{dir}/labels/a.txt: --save_txt could replace it, and it may be ground truth",
    ),
    (
        "`--save_txt` into a data set with classes",
        save_txt_into("images/a.png", "classes.txt"),
        "{dir}/classes.txt: --save_txt could replace it, and it may be ground truth",
    ),
    (
        "`--save_txt` of two images with one label file",
        save_txt_into("images/a.jpg", "images/a.png"),
        "--save_txt: {dir}/images/a.jpg and {dir}/images/a.png would have one label file",
    ),
    ("benchmark_backends: no call", benchmark("--calls", "0"), "--calls: out of range"),
    ("benchmark_backends: a word", benchmark("--batch", "few"), "--batch: invalid int value"),
]
EXPORTED: list[tuple[str, Writer, str]] = [
    ("a text as `.onnx`", with_file("a.onnx", b"no graph"), "is damaged, or no ONNX file"),
    (
        "an `.onnx` whose name is not UTF-8",
        with_file(os.fsdecode(b"\xff.onnx"), b""),
        "its name is not UTF-8, rename it",
    ),
    ("an empty `.onnx`", with_file("a.onnx", b""), "is damaged, or no ONNX file"),
    ("a text as `.xml`", with_file("a.xml", b"<net/>"), "{dir}/a.bin: no such file"),
    ("an ONNX file of another project", other_project, "lacks the metadata mindyolo_v4.card"),
    ("a file with boxes instead of maps", predict(decode=True), "has no raw maps (got boxes, "),
    (
        "MindSpore for an `.onnx` file",
        predict("--backend", "mindspore"),
        "--backend: does not read .onnx files (got mindspore, expected openvino | onnxruntime",
    ),
    (
        "OpenCV for an `.xml` file",
        predict("--backend", "opencv", weight="net.xml"),
        "--backend: does not read .xml files (got opencv, expected openvino)",
    ),
    (
        "another size than the file's",
        predict("--img_size", "96"),
        "was exported for another size (got 96 x 96, expected 64 x 64, or a file exported with",
    ),
]
VIDEOS: list[tuple[str, Writer, str]] = [
    ("a camera that is absent", predict("--source", "63"), "63: no camera or stream answers"),
    (
        "a stream that does not answer",
        predict("--source", "http://127.0.0.1:9/v"),
        "http://127.0.0.1:9/v: no camera or stream answers",
    ),
    (
        "an RTSP stream that does not answer",
        predict("--source", "rtsp://127.0.0.1:9/v"),
        "rtsp://127.0.0.1:9/v: no camera or stream answers",
    ),
    ("a list of files that are absent", listed, "none of 2 images could be read"),
    (
        "a list with a byte 0 in it",
        binary_list,
        "{dir}/list.txt: a line holds a byte 0, which no path does (got a\\x00b.png)",
    ),
    ("a list without a path", empty_list, "{dir}/list.txt: names no image"),
]
CASES: list[Case] = [
    *(Case("Options of prediction", name, write, 2, text) for name, write, text in REFUSED),
    *(Case("Exported files", name, write, 2, text) for name, write, text in EXPORTED),
    *(Case("Videos and lists", name, write, 2, text) for name, write, text in VIDEOS),
    Case("Videos and lists", "a video", video(cut=False), 0, "4 frames, "),
    Case("Videos and lists", "a video that is cut short", video(cut=True), 0, "of the 20 frames"),
]

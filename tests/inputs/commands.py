"""Cases of tests/test_inputs.py: commands."""

import functools
import json
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mindyolo_v4.config.model import ModelConfig
from tests.support.inputs import Case
from tests.weights.narrow import CLASSIFIER, DETECTOR, write_own

Writer = Callable[[Path], Sequence[object]]
NAMES = ("cat", "dog")
ONE_BY_ONE = ("--ms_mode", "pynative")  # takes less time than to compile a graph
TRAINING = {"step": 2, "steps_per_epoch": 1, "world_size": 1}
DEAD = 2**22 + 1  # Linux gives no process a larger number than 2^22


def picture(path: Path, width: int = 40, height: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def data_set(folder: Path, row: str = "0 0.5 0.5 0.4 0.6\n", images: int = 2) -> Path:
    """Write the splits train and val of a YOLO set."""
    for split in ("train", "val"):
        for number in range(images):
            picture(folder / f"images/{split}/{number}.png")
            labels = folder / f"labels/{split}/{number}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(row)
    return folder


def checkpoint(path: Path, training: Any = None, names: Sequence[str] = NAMES) -> Path:
    """Write a narrow yolov4-tiny, with what a training writes besides if that is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(checkpoint_content(json.dumps(training), tuple(names)))
    return path


@functools.cache
def checkpoint_content(training: str, names: tuple[str, ...]) -> bytes:
    from mindyolo_v4.checkpoint.card import make_card
    from mindyolo_v4.checkpoint.file import save
    from mindyolo_v4.checkpoint.parameters import named_parameters
    from mindyolo_v4.config.recipe import build_config, record_to_tree
    from mindyolo_v4.models.build import build_network

    model = {"architecture": "yolov4-tiny", "width": 0.0625}
    config = build_config({"model": model, "data": {"img_size": 64, "format": "yolo"}})
    card = record_to_tree(make_card(config, names, "made for a test"))
    more = {} if training == "null" else {"training": json.loads(training)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.ckpt"
        save(path, named_parameters(build_network(config.model, len(names))), card | more)
        return path.read_bytes()


def predict(name: str, content: bytes | None = None, source: str | None = None) -> Writer:
    """Predict a file of this content."""

    def write(folder: Path) -> Sequence[object]:
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        wanted = folder / name if source is None else source
        return "predict.py", "--weight", checkpoint(folder / "net.ckpt"), "--source", wanted

    return write


def predict_folder(*names: str, save_dir: str = "out") -> Writer:
    """Predict a folder in which no image can be read."""

    def write(folder: Path) -> Sequence[object]:
        checkpoint(folder / "net.ckpt")
        for name in names:
            (folder / "pictures" / name).parent.mkdir(exist_ok=True)
            (folder / "pictures" / name).write_bytes(b"no picture")
        options = "--source", folder / "pictures", "--save_dir", folder / save_dir
        return "predict.py", "--weight", folder / "net.ckpt", *options

    return write


def predict_fifo(folder: Path) -> Sequence[object]:
    os.mkfifo(folder / "pipe.jpg")
    weight = checkpoint(folder / "net.ckpt")
    return "predict.py", "--weight", weight, "--source", folder / "pipe.jpg"


def predict_in_place(folder: Path) -> Sequence[object]:
    checkpoint(folder / "net.ckpt")
    picture(folder / "pictures/a.jpg")
    options = "--source", folder / "pictures", "--save_dir", folder / "pictures", "--exist_ok"
    return "predict.py", "--weight", folder / "net.ckpt", *options


def some_unreadable(folder: Path) -> Sequence[object]:
    checkpoint(folder / "net.ckpt")
    picture(folder / "pictures/a.png")
    (folder / "pictures/b.png").write_bytes(b"no picture")
    options = "--source", folder / "pictures", "--save_dir", folder / "out"
    return "predict.py", "--weight", folder / "net.ckpt", *options, *ONE_BY_ONE


def words(folder: Path, save_dir: str, *options: object) -> Sequence[object]:
    model = "--model.architecture", "yolov4-tiny", "--model.width", "0.0625", "--img_size", "64"
    data = "--data.format", "yolo", "--data.train", "images/train", "--data_dir", folder / "set"
    rest = "--data.names", "[cat, dog]", "--batch_size", "2", "--save_dir", folder / save_dir
    return "train.py", *model, *data, *rest, "--data.val", "null", *options


def train(*options: str, files: Mapping[str, str] | None = None) -> Writer:
    """Train into the folder `run`, in which there are these files."""

    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set")
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return words(folder, "run", *(text.format(dir=folder) for text in options))

    return write


def lock(process: object, host: str) -> dict[str, str]:
    return {"run/run.lock": f"{process}\n{host}\n", "run/config.yaml": ""}


def resume(training: Any, names: Sequence[str] = NAMES, by_name: bool = True) -> Writer:
    """Resume from a checkpoint: by its name in a new folder, or as the newest of a run folder."""

    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set")
        path = checkpoint(folder / "old/last.ckpt", training, names)
        if by_name:
            return words(folder, "new", "--resume", path)
        return words(folder, "old", "--resume")

    return write


def resume_file(name: str, content: bytes | None = None) -> Writer:
    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set")
        if content is not None:
            (folder / name).write_bytes(content)
        return words(folder, "new", "--resume", folder / name)

    return write


def test(
    *options: str, row: str = "", names: Sequence[str] = NAMES, damaged: bool = False
) -> Writer:
    """Score on a set whose label files hold `row`."""

    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set", row)
        (folder / "set/classes.txt").write_text("cat\ndog\n")
        if damaged:
            path = folder / "set/images/val/1.png"
            path.write_bytes(path.read_bytes()[:-200])
        weight = checkpoint(folder / "net.ckpt", names=names)
        data = "--data_dir", folder / "set", "--data.format", "yolo", "--data.val", "images/val"
        rest = "--save_dir", folder / "out", "--data.names", "classes.txt", "--batch_size", "2"
        quick = "--data.num_workers", "1", *ONE_BY_ONE
        filled = (text.format(dir=folder) for text in options)
        return "test.py", "--weight", weight, *data, *rest, *quick, *filled

    return write


def analysed(
    names: Sequence[str] = NAMES, files: Mapping[str, str] | None = None, *options: str
) -> Writer:
    """Score on a set in which one class occurs, or on the annotations among `files`."""

    def write(folder: Path) -> Sequence[object]:
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        command = test(*options, row="0 0.5 0.5 0.4 0.6\n", names=names)(folder)
        (folder / "set/classes.txt").write_text("\n".join(names))
        return command

    return write


def not_utf8(folder: Path) -> Sequence[object]:
    command = analysed()(folder)
    for name in ("images/val/0.png", "labels/val/0.txt"):
        path = folder / "set" / name
        path.rename(path.with_stem(os.fsdecode(b"\xff")))
    return command


def only_crowds() -> str:
    """Return a COCO file whose boxes are all crowds."""
    images = [
        {"id": number + 1, "file_name": f"{number}.png", "width": 40, "height": 24}
        for number in range(2)
    ]
    crowd = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 1}
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(NAMES)]
    content = {"images": images, "annotations": [crowd | {"id": 1}], "categories": categories}
    return json.dumps(content)


def plain(*command: str, file: str | None = None, content: str = "") -> Writer:
    """Run a command, perhaps beside a file."""

    def write(folder: Path) -> Sequence[object]:
        if file is not None:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content)
        return [text.format(dir=folder) for text in command]

    return write


def with_weight(command: str, *options: str, model: ModelConfig = DETECTOR) -> Writer:
    """Run a command with a checkpoint of this network."""

    def write(folder: Path) -> Sequence[object]:
        return command, "--weight", write_own(folder / "net.ckpt", model), *options

    return write


def anchors(*options: str, row: str = "0 0.5 0.5 0.4 0.6\n") -> Writer:
    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set", row)
        data = "--data.format", "yolo", "--data.train", "images/train", "--data.names", "[cat]"
        return "fit_anchors", "--data_dir", folder / "set", *data, *options

    return write


HOST = socket.gethostname()
SCENES = ("make_scenes", "--output", "{dir}/scenes")
NOT_READ = "of 2 images could not be read and were scored as plain grey"

SOURCES = [
    ("a video (.avi)", predict("clip.avi", b"RIFF\x24\0\0\0AVI LIST"), "{dir}/clip.avi: "),
    ("a video (.mp4)", predict("clip.mp4", b"\0\0\0\x18ftypmp42"), "{dir}/clip.mp4: "),
    (
        "a video whose name is not UTF-8",
        predict(os.fsdecode(b"\xff.avi"), b"RIFF\x24\0\0\0AVI LIST"),
        "its name is not UTF-8, rename it",
    ),
    ("a damaged picture", predict("a.jpg", b"no picture"), "{dir}/a.jpg: "),
    ("an empty file", predict("a.png", b""), "{dir}/a.png: "),
    ("the first bytes of a JPEG", predict("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF"), "{dir}/a.jpg: "),
    ("a PDF", predict("a.pdf", b"%PDF-1.7\n"), "{dir}/a.pdf: "),
    ("an SVG drawing", predict("a.svg", b"<svg/>"), "{dir}/a.svg: "),
    ("a ZIP archive", predict("a.zip", b"PK\x05\x06" + bytes(18)), "{dir}/a.zip: "),
    ("a NumPy file", predict("a.npy", b"\x93NUMPY\x01\0"), "{dir}/a.npy: "),
    ("a pipe", predict_fifo, "{dir}/pipe.jpg: "),
    ("a device", predict("", source="/dev/null"), "/dev/null: no image there"),
    ("a path where nothing is", predict("none.jpg"), "{dir}/none.jpg: no image there"),
    ("a pattern that nothing matches", predict("*.tif"), "{dir}/*.tif: no image there"),
    ("a folder without images", predict("notes/a.md", b"#", "."), ".: no image there"),
    ("an empty name", predict("", source=""), "--source: missing"),
    (
        "images of which none can be read",
        predict_folder("a.jpg", "b.png"),
        "none of 2 images could be",
    ),
]
RESUMED = [
    ("a run folder that is not there", train("--resume"), "there is no run folder"),
    ("a checkpoint that is not there", resume_file("none.ckpt"), "{dir}/none.ckpt: no such file"),
    ("a text file", resume_file("a.ckpt", b"text"), "{dir}/a.ckpt: "),
    ("an empty file", resume_file("a.ckpt", b""), "{dir}/a.ckpt: "),
    ("converted weights", resume(None), "carries no training to resume"),
    (
        "classes in another order",
        resume(TRAINING, NAMES[::-1]),
        "its 2 class names are not the 2 of",
    ),
    ("the same, the newest of its folder", resume(TRAINING, NAMES[::-1], False), "class names"),
    ("one class more", resume(TRAINING, (*NAMES, "cow")), "its 3 class names are not the 2 of"),
    ("no optimizer in the checkpoint", resume(TRAINING), "does not continue this training"),
    (
        "another length of an epoch",
        resume(TRAINING | {"steps_per_epoch": 7}),
        "another steps_per_epoch",
    ),
    ("a step that is text", resume(TRAINING | {"step": "many"}), "card.training.step"),
    ("a step below 0", resume(TRAINING | {"step": -1}), "card.training: is damaged"),
    ("an epoch of no step", resume(TRAINING | {"steps_per_epoch": 0}), "card.training: is damaged"),
    ("a training that is a list", resume([1]), "card.training: is damaged"),
    ("a best result that is text", resume(TRAINING | {"best": "good"}), "card.training.best"),
    ("a best result without its number", resume(TRAINING | {"best": {}}), "card.training.best"),
]
FOLDERS = [
    ("files in a new run's folder", train(files={"run/a.txt": ""}), "--save_dir: is not empty"),
    ("a run folder that is a file", train(files={"run": ""}), "--save_dir: is a file"),
    (
        "a lock of another host",
        train("--resume", files=lock(7, "far")),
        "process 7 on host far writes",
    ),
    (
        "a lock of a running process",
        train("--resume", files=lock(1, HOST)),
        "process 1 on this host",
    ),
    ("a lock that is empty", train("--resume", files={"run/run.lock": ""}), "run.lock: is damaged"),
    ("a lock that is damaged", train("--resume", files=lock("x", HOST)), "run.lock: is damaged"),
    ("a folder of results with files", test("--save_dir", "{dir}/set"), "--save_dir: is not empty"),
    (
        "a folder of results that is a file",
        test("--save_dir", "{dir}/net.ckpt"),
        "--save_dir: is a file",
    ),
    (
        "a folder of pictures with files",
        predict_folder("a.jpg", save_dir="pictures"),
        "is not empty",
    ),
]
OPTIONS = [
    (
        "results in the folder of the images",
        predict_in_place,
        "would replace {dir}/pictures/a.jpg of",
    ),
    ("no checkpoint", plain("test.py"), "--weight: missing"),
    ("no source", with_weight("predict.py"), "--source: missing"),
    (
        "a device that is absent",
        train("--device_target", "Ascend"),
        "not available on this machine",
    ),
    ("several devices without a launcher", train("--is_parallel", "True"), "this process is alone"),
    ("a batch larger than the set", train("--batch_size", "9"), "train.per_batch_size"),
    ("more accumulation than an epoch has", train("--train.accumulate", "2"), "train.accumulate"),
    (
        "an input size too large for the batch",
        train("--train.random_sizes", "[64, 96]"),
        "train.random_sizes: one image of 96 px is more than train.per_batch_size x data.img_size",
    ),
    ("a part that no network has", train("--train.freeze", "[spine.]"), "train.freeze"),
    (
        "--jit_level O3",
        train("--jit_level", "O3"),
        "jit_level: not one of its choices (got O3, expected auto | O0 | O1 | O2)",
    ),
    (
        "--ms_amp_level O1",
        train("--ms_amp_level", "O1"),
        "ms_amp_level: not one of its choices (got O1, expected auto | O0 | O2 | O3 | ms_auto)",
    ),
    (
        "--ms_amp_dtype half",
        train("--ms_amp_dtype", "half"),
        "ms_amp_dtype: not one of its choices (got half, expected float16 | bfloat16)",
    ),
    (
        "recomputation in PyNative mode",
        train("--train.recompute", "[neck]", "--ms_mode", "pynative"),
        "train.recompute: needs --ms_mode graph",
    ),
    ("recomputation of no part", train("--train.recompute", "[spine]"), "backbone, neck, head"),
    (
        "bfloat16 on a CPU",
        train("--ms_amp_level", "O2", "--ms_amp_dtype", "bfloat16"),
        "--ms_amp_dtype: MindSpore has no bfloat16 kernels for the CPU",
    ),
    ("everything frozen", train("--train.freeze", "[backbone., neck., head.]"), "leaves nothing"),
    (
        "`--tta` for a classifier",
        with_weight("test.py", "--tta", model=CLASSIFIER),
        "evaluate.tta: is for",
    ),
    (
        "`--tile` for a classifier",
        with_weight("predict.py", "--tile", "64", "--source", "a.jpg", model=CLASSIFIER),
        "evaluate.tile: is for detectors, and this network is a classifier",
    ),
    (
        "test.py with --conf_thres 1.5",
        with_weight("test.py", "--conf_thres", "1.5"),
        "evaluate.conf_thres: out of range (got 1.5",
    ),
    (
        "test.py with --split validation",
        with_weight("test.py", "--split", "validation"),
        "evaluate.split: not one of its choices (got validation, expected train | val | test",
    ),
    ("--tta maybe", with_weight("test.py", "--tta=maybe"), "evaluate.tta: not true or false"),
    (
        "--tile 100",
        with_weight("test.py", "--tile", "100"),
        "evaluate.tile: not a multiple of 32 (got 100)",
    ),
    (
        "--tile 0",
        with_weight("predict.py", "--tile", "0", "--source", "a.jpg"),
        "evaluate.tile: out of range (got 0",
    ),
    (
        "a folder of results with a byte 0 in its name",
        with_weight("test.py", "--save_dir", "a\0b"),
        "save_dir: holds a byte 0, which no path does (got a\\x00b)",
    ),
    (
        "`--overlap` without `--tile`",
        test("--overlap", "0.3"),
        "--overlap: has no effect without tiles (got 0.3, expected --tile PIXELS)",
    ),
    ("the same in train.py", train("--overlap", "0.3"), "--overlap: has no effect without tiles"),
    (
        "--overlap 1",
        with_weight("test.py", "--overlap", "1"),
        "evaluate.tile_overlap: out of range",
    ),
    (
        "--overlap -0.1",
        with_weight("test.py", "--overlap", "-0.1"),
        "evaluate.tile_overlap: out of",
    ),
    (
        "`mindyolo-v4 trian`",
        plain("mindyolo-v4", "trian"),
        "command line: names no command (got trian, expected train)",
    ),
    (
        "`mindyolo-v4 convert` alone",
        plain("mindyolo-v4", "convert"),
        "command line: names no command (got convert, expected convert darknet | convert mindyolo",
    ),
    (
        "`--config yolov4.yaml`, which is in a folder of the package",
        plain("check_data", "--config", "yolov4.yaml"),
        "yolov4.yaml: no such configuration file (expected yolov4/yolov4.yaml)",
    ),
    ("a split that the recipe lacks", test("--split", "test"), "data.test"),
    (
        "other classes than the checkpoint's",
        test(names=NAMES[::-1]),
        "class names are not the 2 of",
    ),
]
TOOLS = [
    (
        "make_scenes: a file in its place",
        plain(*SCENES, file="scenes"),
        "{dir}/scenes: not a folder",
    ),
    ("make_scenes: other files", plain(*SCENES, file="scenes/a.txt"), "{dir}/scenes: not empty"),
    (
        "make_scenes: another set",
        plain(*SCENES, file="scenes/scenes.json", content="{}"),
        "another scene",
    ),
    (
        "make_scenes: a damaged card",
        plain(*SCENES, file="scenes/scenes.json", content="{"),
        "not a JSON",
    ),
    ("make_scenes: no pictures", plain(*SCENES, "--train", "0"), "--train: out of range"),
    ("make_scenes: small pictures", plain(*SCENES, "--img_size", "64"), "--img_size: out of range"),
    ("make_scenes: a text as number", plain(*SCENES, "--seed", "x"), "--seed"),
    ("make_scenes: a seed below 0", plain(*SCENES, "--seed", "-1"), "--seed: out of range"),
    (
        "check_device: no steps",
        plain("check_device", "--steps", "0"),
        "--steps: out of range (got 0, expected >= 1)",
    ),
    (
        "check_device: a word as steps",
        plain("check_device", "--steps", "many"),
        "argument --steps: invalid int value: 'many'",
    ),
    (
        "ascend_dry_run: no devices",
        plain(
            *("ascend_dry_run", "--config", "{dir}/tiny.yaml", "--devices", "0"),
            file="tiny.yaml",
            content="model: {architecture: yolov4-tiny}",
        ),
        "--devices: out of range",
    ),
    (
        "check_device: an option of train.py",
        plain("check_device", "--epochs", "3"),
        "--epochs: unknown option",
    ),
    (
        "check_device: data that is not there",
        plain(
            *("check_device", "--device_target", "CPU", "--data.train", "train.json"),
            *("--data_dir", "{dir}/none"),
        ),
        "data.root: folder not found",
    ),
    (
        "fit_anchors: more anchors than sizes",
        anchors("--clusters", "5"),
        "--clusters: out of range",
    ),
    (
        "fit_anchors: fewer box sizes than the network has anchors",
        anchors(),
        "model.anchors_wh_px: no level has as many different sizes of boxes as anchors",
    ),
    ("fit_anchors: no anchor", anchors("--clusters", "0"), "--clusters: out of range"),
    ("fit_anchors: no boxes", anchors(row=""), "holds no boxes to train on"),
    (
        "fit_anchors: a classifier",
        anchors("--model.architecture", "cspdarknet53"),
        "model.architecture: has no anchors",
    ),
]
ANALYSED = [
    ("objects that the network does not find", analysed(), "best confidence threshold, mean of"),
    (
        "crowds only",
        analysed(
            NAMES,
            {"set/annotations/val.json": only_crowds()},
            *("--data.format", "coco", "--data.val", "annotations/val.json"),
        ),
        "no analysis of errors: no ground truth",
    ),
    ("class names with `$` and `_`", analysed(("$x^$", "_a")), "best confidence threshold"),
    ("class names in Chinese", analysed(("\u732b", "\u72d7")), "best confidence threshold"),
    ("names of images that are not UTF-8", not_utf8, "best confidence threshold"),
    ("class names of 250 letters", analysed(("a" * 250, "b" * 250)), "best confidence threshold"),
    (
        "results of an earlier test, with `--exist_ok`",
        analysed(NAMES, {"out/worst_01.jpg": "old", "out/per_class.csv": ""}, "--exist_ok"),
        "best confidence threshold",
    ),
]
CASES: list[Case] = [
    *(Case("Sources of predict.py", name, write, 2, text) for name, write, text in SOURCES),
    Case("Sources of predict.py", "an image of two unreadable", some_unreadable, 0, "1 skipped"),
    *(Case("Resuming", name, write, 2, text) for name, write, text in RESUMED),
    *(Case("Folders and locks", name, write, 2, text) for name, write, text in FOLDERS),
    *(Case("Options of commands", name, write, 2, text) for name, write, text in OPTIONS),
    Case("Scores", "a split without objects", test(), 0, "AP undefined: no ground truth"),
    Case("Scores", "an image cut short", test(damaged=True), 2, f"1 {NOT_READ}"),
    Case(
        "Scores",
        "the same with `--allow_unreadable`",
        test("--allow_unreadable", damaged=True),
        0,
        f"1 {NOT_READ}",
    ),
    *(Case("Scores", name, write, 0, text) for name, write, text in ANALYSED),
    *(Case("Tools", name, write, 2, text) for name, write, text in TOOLS),
]

"""Cases of tests/test_inputs.py: data.yaml, obj.data, parts of data sets, and their conversion."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.inputs.annotations import ROW, Write, category, coco, picture, text
from tests.support.inputs import Case
from tests.support.packed import write_packed

YAML = "train: images\nnames: [cat]\n"
OBJ = "classes = 1\ntrain = train.txt\nnames = obj.names\n"


def described(content: str, *more: object, name: str = "data.yaml", command: str = "check_data",
              files: dict[str, str] | None = None) -> Write:  # fmt: skip
    """Write a set of one image and a file that describes it, and read it by --data."""

    def write(folder: Path) -> Sequence[object]:
        picture(folder / "images/a.png")
        text(folder / "labels/a.txt", ROW)
        text(folder / "train.txt", "images/a.png\n")
        text(folder / "obj.names", "cat\n")
        text(folder / name, content)
        for path, lines in (files or {}).items():
            text(folder / path, lines)
        words = [str(word).replace("DIR", str(folder)) for word in more]
        return [command, "--data", folder / name, *words]

    return write


def other_validation(*names: str) -> Write:
    """Train on COCO files, cat and dog, with a validation file of these categories."""

    def write(folder: Path) -> Sequence[object]:
        coco(categories=[category(1, "cat"), category(2, "dog")])(folder)
        content = json.loads((folder / "train.json").read_text())
        content["categories"] = [category(number, name) for number, name in enumerate(names, 1)]
        text(folder / "val.json", json.dumps(content))
        data = ["--data.format", "coco", "--data_dir", folder, "--data.val", "val.json"]
        place = ["--data.train", "train.json", "--save_dir", folder / "run", "--img_size", 64]
        return ["train.py", *data, *place, "--model.architecture", "yolov4-tiny"]

    return write


def converted(*more: object) -> Write:
    return described(YAML, *more, command="convert_data")


def packed(
    *more: object, command: str = "check_data", at: int | None = None, **changed: object
) -> Write:
    """Write a packed split of one image, with a byte of it or an array of its index changed."""

    def write(folder: Path) -> Sequence[object]:
        picture(folder / "a.png")
        shard = write_packed(folder / "p", {"a.png": (folder / "a.png").read_bytes()}, **changed)
        if at is not None:
            content = bytearray(shard.read_bytes())
            content[at] ^= 1
            shard.write_bytes(content)
        place = ["--data.format", "mindrecord", "--data_dir", folder / "p"]
        words = [str(word).replace("DIR", str(folder)) for word in more]
        return [command, *place, "--data.train", "train", "--data.img_size", 64, *words]

    return write


def unpacked(*more: object, at: int | None = None) -> Write:
    return packed("--output", "DIR/new", *more, command="convert_data", at=at)


FILE = "data.yaml and obj.data"
PART = "Parts of a data set"
CONVERT = "Conversion of data sets"
PACKED = "Packed data sets"
SMALL = ("--data.img_size", "64")
CASES = [
    Case(FILE, "data.yaml with a list of names", described(YAML, *SMALL), 0, "cat"),
    Case(FILE, "data.yaml with names by number",
         described("train: images\nnames: {0: cat}\n", *SMALL), 0, "cat"),
    Case(FILE, "paths that begin with ../",
         described("train: ../images\nnames: [cat]\n", *SMALL), 0, "cat"),
    Case(FILE, "several folders", described("train: [images]\nnames: [cat]\n", *SMALL), 0, "cat"),
    Case(FILE, "a path of another machine",
         described(f"path: /content/mine\n{YAML}", *SMALL), 0, "cat"),
    Case(FILE, "obj.data", described(OBJ, *SMALL, name="obj.data"), 0, "cat"),
    Case(FILE, "a file that is not there", described(YAML, "--data", "DIR/none.yaml"), 2,
         "data.file: no such file"),
    Case(FILE, "a folder", described(YAML, "--data", "DIR/images"), 2, "data.file: a folder"),
    Case(FILE, "data.yaml without names", described("train: images\n"), 2,
         "{dir}/data.yaml: describes no data set"),
    Case(FILE, "a recipe", described("data: {root: x}\n"), 2,
         "describes no data set; a recipe is given by --config"),
    Case(FILE, "nc: 2 and one name", described(f"nc: 2\n{YAML}"), 2,
         "nc disagrees with the class names of {dir}/data.yaml (got 2, expected 1)"),
    Case(FILE, "names that skip a number", described("train: images\nnames: {0: a, 2: b}\n"), 2,
         "class ids under names: are not 0, 1, 2, ..."),
    Case(FILE, "train that is a mapping", described("train: {a: b}\nnames: [cat]\n"), 2,
         "{dir}/data.yaml: train is not a path"),
    Case(FILE, "path that is a list", described(f"path: [a]\n{YAML}"), 2, "path is not a folder"),
    Case(FILE, "a folder in data.yaml that is not there",
         described("train: nowhere\nnames: [cat]\n"), 2, "data.train: not found"),
    Case(FILE, "obj.data with a key twice: darknet takes the first",
         described(f"{OBJ}names = other.names\n", *SMALL, name="obj.data"), 0, "cat"),
    Case(FILE, "a test folder that is not there, beside one that is",
         described(f"test: ../test/images\n{YAML}"), 1,
         "no-images  {dir}/data.yaml: data.test: not found (got {dir}/../test/images"),
    Case(FILE, "obj.data without names",
         described("classes = 1\ntrain = train.txt\n", name="obj.data"), 2,
         "{dir}/obj.data: describes no data set"),
    Case(FILE, "obj.data whose names are not there",
         described("train = train.txt\nnames = none.names\n", name="obj.data"), 2,
         "its file of names was not found (got none.names"),
    Case(FILE, "classes = 3 and one name",
         described(OBJ.replace("1", "3"), name="obj.data"), 2,
         "classes disagrees with the class names of {dir}/obj.names (got 3, expected 1)"),
    Case(FILE, "--data and --data.train", described(YAML, "--data.train", "images"), 2,
         "--data.train: --data says this as well"),
    Case(FILE, "--data and --data_dir", described(YAML, "--data_dir", "DIR"), 2,
         "--data.root: --data says this as well"),
    Case(FILE, "for a classifier",
         described(YAML, "--model.architecture", "cspdarknet53"), 2,
         "data.file: is for detectors"),
    Case(PART, "one class by name", described(YAML, "--data.classes", "cat", *SMALL), 0, "cat"),
    Case(PART, "a class that the set does not have", described(YAML, "--data.classes", "dog"), 2,
         "data.classes: there is no such class (got dog, expected cat, or 0 to 0)"),
    Case(PART, "a class twice", described(YAML, "--data.classes", "[cat, 0]"), 2,
         "data.classes: names a class twice"),
    Case(PART, "no class", described(YAML, "--data.classes", "[]"), 2,
         "data.classes: names no class"),
    Case(PART, "all classes as one", described(YAML, "--single_cls", *SMALL), 0, "object"),
    Case(PART, "a fraction of 1.5", described(YAML, "--data.fraction", "1.5"), 2,
         "data.fraction: out of range"),
    Case(PART, "a fraction of 0", described(YAML, "--data.fraction", "0"), 2,
         "data.fraction: out of range"),
    Case(PART, "a validation file without a class of the training",
         other_validation("cat"), 2,
         "data.names: differs from the categories of {dir}/val.json (got dog not in the file"),
    Case(PART, "a validation file with one class more", other_validation("cat", "dog", "pig"), 2,
         "data.names: differs from the categories of {dir}/val.json (got pig in the file only"),
    Case(CONVERT, "no format", converted("--output", "DIR/new"), 2, "--to: missing"),
    Case(CONVERT, "a data.yaml", converted("--to", "yolo", "--output", "DIR/new"), 0,
         "train: 1 images, 1 boxes, equal when read back"),
    Case(CONVERT, "a format that is not known", converted("--to", "csv", "--output", "DIR/new"), 2,
         "--to: unknown format (got csv"),
    Case(CONVERT, "no folder", converted("--to", "coco"), 2, "--output: missing"),
    Case(CONVERT, "a folder with files", converted("--to", "coco", "--output", "DIR/images"), 2,
         "--output: is not an empty folder"),
    Case(CONVERT, "shares that are not numbers",
         converted("--to", "coco", "--output", "DIR/new", "--shares", "most"), 2,
         "--shares: not numbers"),
    Case(CONVERT, "four shares",
         converted("--to", "coco", "--output", "DIR/new", "--shares", "1,1,1,1"), 2,
         "--shares: no shares"),
    Case(CONVERT, "a share without an image",
         converted("--to", "coco", "--output", "DIR/new", "--shares", "9,1"), 2,
         "--shares: leaves no image for val"),
    Case(CONVERT, "one image to COCO", converted("--to", "coco", "--output", "DIR/new"), 0,
         "train: 1 images, 1 boxes, equal when read back"),
    Case(CONVERT, "MindRecord files with --link",
         converted("--to", "mindrecord", "--link", "--output", "DIR/new"), 2,
         "--link: images in MindRecord files are not files of their own"),
    Case(PACKED, "one image", packed(), 0, "no faults"),
    Case(PACKED, "a split that was not packed", packed("--data.train", "val"), 2,
         "data.train: not found: there is no {dir}/p/val.index.npz (got val"),
    Case(PACKED, "a list of splits", packed("--data.train", "[train, val]"), 2,
         "data.train: not a split of data.format mindrecord"),
    Case(PACKED, "a bit of an image that changed", packed(at=99), 1,
         "a.png: is not in {dir}/p/train-00000-of-00001.mindrecord as it was packed"),
    Case(PACKED, "a MindRecord file of another size", packed(sizes=[7]), 1,
         "{dir}/p/train-00000-of-00001.mindrecord: is missing or not the file that was packed"),
    Case(PACKED, "a MindRecord file that is not there", packed(files=["a.mindrecord"]), 1,
         "{dir}/p/a.mindrecord: is missing or not the file that was packed (expected"),
    Case(PACKED, "the index of a later version", packed(version=2), 1,
         "was written by another version of this package (got 2, expected 1)"),
    Case(PACKED, "the index of a classifier", packed(box_xyxy_px=None), 1,
         "{dir}/p/train.index.npz: is of another task, or no index of packed images"),
    Case(PACKED, "names in another order", packed("--data.names", "[dog, cat]"), 2,
         "data.names: in another order than in {dir}/p/train.index.npz"),
    Case(PACKED, "three names for two classes", packed("--data.names", "[a, b, c]"), 2,
         "data.names: not as many as the classes of {dir}/p/train.index.npz (got 3, expected 2)"),
    Case(PACKED, "--fix", packed("--fix", "DIR/new"), 2,
         "--fix: corrects no packed annotations (got mindrecord"),
    Case(PACKED, "to VOC", unpacked("--to", "voc"), 0, "1 images, 1 boxes, equal when read back"),
    Case(PACKED, "to COCO with --link", unpacked("--to", "coco", "--link"), 2,
         "--link: images in MindRecord files are not files of their own"),
    Case(PACKED, "to COCO, with a bit that changed", unpacked("--to", "coco", at=99), 2,
         "a.png: is not in {dir}/p/train-00000-of-00001.mindrecord as it was packed"),
]  # fmt: skip

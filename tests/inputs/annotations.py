"""Cases of tests/test_inputs.py: annotations."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.inputs import Case

Write = Callable[[Path], Sequence[object]]
WIDTH, HEIGHT = 64, 48
BOX = (16, 12, 48, 36)  # of every object, pixels
ROW = "0 0.5 0.5 0.5 0.5\n"  # the same in a YOLO label
NAMES = "[cat]"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (200, 40, 20)).save(path)


def text(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def check(folder: Path, form: str, split: str, *more: object) -> list[object]:
    """Return the command that reads one split."""
    place = ["--data_dir", folder, "--data.format", form, "--data.train", split]
    return ["check_data", *place, "--data.img_size", 64, *more]


# ---------------------------------------------------------------- COCO JSON


def coco(split: str = "train.json", categories: Any = None, **changes: Any) -> Write:
    """Write a set of one image; `changes` replace keys of the file, its image or annotation."""

    def write(folder: Path) -> Sequence[object]:
        picture(folder / "images/a.png")
        left, top, right, bottom = BOX
        image = {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [left, top, right, bottom]}
        box["bbox"] = [left, top, right - left, bottom - top]
        for entry in (image, box):
            entry |= {key: value for key, value in changes.items() if key in entry}
        box |= {key: value for key, value in changes.items() if key in ("area", "iscrowd")}
        kinds = categories or [category(1, "cat")]
        content = {"images": [image], "annotations": [box], "categories": kinds}
        text(folder / "train.json", json.dumps(content))
        return check(folder, "coco", split)

    return write


def coco_text(content: str | bytes) -> Write:
    def write(folder: Path) -> Sequence[object]:
        text(folder / "train.json", content)
        return check(folder, "coco", "train.json")

    return write


def accent(folder: Path) -> Sequence[object]:
    command = coco(file_name="e\u0301.png")(folder)
    (folder / "images/a.png").rename(folder / "images/\u00e9.png")
    return command


def category(number: int, name: str, parent: str = "") -> dict[str, object]:
    return {"id": number, "name": name, "supercategory": parent}


COCO = "COCO annotations"
COCO_CASES = [
    Case(COCO, "boxes in pixels", coco(), 0, "no faults"),
    Case(COCO, "a box as fractions of the image", coco(bbox=[0.25, 0.25, 0.5, 0.5]), 1,
         "{dir}/train.json:1: annotation 1: all boxes are fractions of the image"),
    Case(COCO, "the same by its centre", coco(bbox=[0.8, 0.7, 0.3, 0.5]), 1,
         "{dir}/train.json:1: annotation 1: all boxes are fractions of the image"),
    Case(COCO, "file names with backslashes", coco(file_name="images\\a.png"), 0, "no faults"),
    Case(COCO, "absolute file names of another machine", coco(file_name="C:\\set\\a.png"), 0,
         "no faults"),
    Case(COCO, "a file name with an accent as macOS writes it", accent, 0, "no faults"),
    Case(COCO, "file names that begin with data/", coco(file_name="data/a.png"), 0, "no faults"),
    Case(COCO, "width and height as 64.0 and 48.0", coco(width=64.0, height=48.0), 0, ""),
    Case(COCO, "image ids that are text", coco(id="one", image_id="one"), 0, "no faults"),
    Case(COCO, "image ids of 30 digits", coco(id=10**29, image_id=10**29), 0, "no faults"),
    Case(COCO, "a width that is text", coco(width="wide"), 1, "malformed width or height"),
    Case(COCO, "a width of 400 digits", coco(width=int("9" * 400)), 1, "malformed width or height"),
    Case(COCO, "a width of no pixels", coco(width=0), 1, "malformed width or height"),
    Case(COCO, "a category 0 that is only the supercategory of others",
         coco(categories=[category(0, "pets"), category(1, "cat", "pets")]), 0,
         "category 0 'pets' is only the supercategory of others, no class"),
    Case(COCO, "one class that is its own supercategory",
         coco(categories=[category(0, "cat"), category(1, "cat", "cat")]), 0,
         "category 0 'cat' is only the supercategory of others"),
    Case(COCO, "one class under two ids",
         coco(categories=[category(1, "cat"), category(2, "cat")]), 0,
         "2 categories have 1 names, each one class"),
    Case(COCO, "two categories of one id", coco(categories=[category(1, "a"), category(1, "b")]),
         1, "category 1: its id occurs twice"),
    Case(COCO, "a box of 400 digits", coco(bbox=[int("9" * 400), 1, 2, 2]), 1, "malformed bbox"),
    Case(COCO, "a box that is text", coco(bbox="16 12 32 24"), 1, "malformed bbox"),
    Case(COCO, "an area that is infinite", coco(area=float("inf")), 1, "malformed area"),
    Case(COCO, "iscrowd: yes", coco(iscrowd="yes"), 1, "malformed iscrowd"),
    Case(COCO, "an image_id that is a list", coco(image_id=[1]), 1, "image_id"),
    Case(COCO, "spaces around the name of a category", coco(categories=[category(1, " cat\n")]), 0,
         "no faults"),
    Case(COCO, "a name of two lines", coco(categories=[category(1, "cat\ndog")]), 1,
         "malformed category"),
    Case(COCO, "a category without a name", coco(categories=[{"id": 1}]), 1, "malformed category"),
    Case(COCO, "an image that is not there", coco(file_name="b.png"), 1, "image is missing"),
    Case(COCO, "a split written as ../train.json", coco("../train.json"), 0, ""),
    Case(COCO, "lists nested 100,000 deep", coco_text("[" * 100_000), 1,
         "{dir}/train.json: not valid JSON: nested too deeply"),
    Case(COCO, "a number of 5000 digits", coco_text('{"images": ' + "9" * 5000 + "}"), 1,
         "{dir}/train.json: not valid JSON"),
    Case(COCO, "a file that ends early", coco_text('{"images": ['), 1, "{dir}/train.json:1"),
    Case(COCO, "a list of annotations alone", coco_text("[]"), 1, "not a COCO file (got list"),
    Case(COCO, "a file that is not UTF-8", coco_text(b'{"images": "\xff"}'), 1, "not UTF-8 text"),
]  # fmt: skip


# ---------------------------------------------------------------- YOLO labels


def yolo(
    row: str = ROW, image: str = "images/train/a.png", label: str = "labels/train/a.txt",
    split: str = "images/train", files: dict[str, str] | None = None, names: str | None = NAMES,
) -> Write:  # fmt: skip
    """Write one image, its label file and more files of text."""

    def write(folder: Path) -> Sequence[object]:
        picture(folder / image)
        if label:
            text(folder / label, row)
        for name, content in (files or {}).items():
            text(folder / name, content)
        return check(folder, "yolo", split, *(() if names is None else ("--data.names", names)))

    return write


def huge(folder: Path) -> Sequence[object]:
    """Write a row that repeats without line breaks."""
    return yolo("0 0.3125 0.5 " * 1_000_000)(folder)


def circle(folder: Path) -> Sequence[object]:
    """Link an image folder into itself, twice."""
    command = yolo()(folder)
    for name in ("one", "two"):
        (folder / "images/train" / name).symlink_to(".")
    return command


def fifo(folder: Path) -> Sequence[object]:
    command = yolo()(folder)
    os.mkfifo(folder / "images/train/b.png")
    return command


def unlabelled(folder: Path) -> Sequence[object]:
    command = yolo()(folder)
    picture(folder / "images/train/b.png")
    return command


POINTS = "0 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.4 2 0.5 0.6 1\n"  # three key points after a box
PAIRS = "0 0.5 0.5 0.5 0.5 0.4 0.4 0.6 0.4 0.5 0.6 0.5 0.5\n"
CENTRAL = "0 0.4 0.4 0.5 0.4 0.6 0.4 0.6 0.6 0.5 0.6 0.4 0.6\n"
WITHOUT_POINTS = "0 {} 0.5 0.4 0.4 0 0 0 0 0 0 0 0\n"
POSES = "names: [cat]\nkpt_shape: [3, 3]\n"
YOLO = "YOLO labels"
LIST = "Image lists"
YOLO_CASES = [
    Case(YOLO, "rows of class and box", yolo(), 0, "no faults"),
    Case(YOLO, "polygons", yolo("0 0.1 0.1 0.9 0.1 0.5 0.9\n"), 0, "no faults"),
    Case(YOLO, "key points, with kpt_shape in data.yaml",
         yolo(POINTS, files={"data.yaml": POSES}, names=None), 0, "no faults"),
    Case(YOLO, "key points, without kpt_shape", yolo(PAIRS), 0, "class cx cy w h and key points"),
    Case(YOLO, "key points with visibility, without kpt_shape", yolo(POINTS), 0, "key points"),
    Case(YOLO, "key points of one of three objects, without kpt_shape",
         yolo(PAIRS + WITHOUT_POINTS.format(0.4) + WITHOUT_POINTS.format(0.6)), 0,
         "class cx cy w h and key points"),
    Case(YOLO, "a row that kpt_shape does not fit",
         yolo("0 0.5 0.5 0.5 0.5 0.4 0.4\n", files={"data.yaml": POSES}), 1,
         "a.txt:1: wrong number of fields"),
    Case(YOLO, "four corners near the centre, without kpt_shape",
         yolo("0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6\n"), 0, "no faults"),
    Case(YOLO, "polygons of six points near the centre, without kpt_shape", yolo(CENTRAL), 1,
         "a.txt:1: rows of 13 numbers may be polygons"),
    Case(YOLO, "polygons of six points near the centre, with kpt_shape: [0, 2]",
         yolo(CENTRAL, files={"data.yaml": "kpt_shape: [0, 2]\n"}), 0, "no faults"),
    Case(YOLO, "kpt_shape: many", yolo(POINTS, files={"data.yaml": "kpt_shape: many\n"}), 2,
         "malformed kpt_shape"),
    Case(YOLO, "kpt_shape: 43", yolo(POINTS, files={"data.yaml": "kpt_shape: 43\n"}), 2,
         "malformed kpt_shape"),
    Case(YOLO, "rows in pixels", yolo("0 32 24 32 24\n"), 1,
         "a.txt:1: coordinates are not fractions of the image"),
    Case(YOLO, "a row of text", yolo("x" * 300_000), 1, "{dir}/labels/train/a.txt:1: not numbers"),
    Case(YOLO, "a class of 1e300", yolo("1e300 0.5 0.5 0.5 0.5\n"), 1, "class out of range"),
    Case(YOLO, "a label file a.TXT", yolo(label="labels/train/a.TXT"), 0, "no faults"),
    Case(YOLO, "a.txt for A.png", yolo(image="images/train/A.png"), 0, "no faults"),
    Case(YOLO, "an accent as macOS writes it in a label file's name",
         yolo(image="images/train/\u00e9.png", label="labels/train/e\u0301.txt"), 0, "no faults"),
    Case(YOLO, "no label file at all", yolo(label=""), 1, "none of its images has a label file"),
    Case(YOLO, "a label file of 13 MB", huge, 1,
         "labels/train/a.txt: too large for the labels of one image (got 13 MB, expected at most"),
    Case(YOLO, "many images without label file", unlabelled, 0, "b.png: lacks a label file"),
    Case(YOLO, "a byte 0 in a row", yolo("0 0.5 0.5 0.5 0.5 \0\n"), 1, "a.txt:1: not numbers"),
    Case(YOLO, "links that lead back to the folder", circle, 0, "no faults"),
    Case(YOLO, "a pipe named b.png", fifo, 1, "not a file"),
    Case(YOLO, "a split written as ../images/train", yolo(split="../images/train"), 0, ""),
    Case(YOLO, "a folder that is not there", yolo(split="images/val"), 2, "data.train: not found"),
    Case(LIST, "a line twice, which doubles the weight of an image",
         yolo(split="t.txt", files={"t.txt": "images/train/a.png\n" * 2}), 0,
         "t.txt:2: image is listed twice, first at {dir}/t.txt:1; 1 repeated lines are kept"),
    Case(LIST, "backslashes",
         yolo(split="t.txt", files={"t.txt": "images\\train\\a.png\r\n"}), 0, "no faults"),
    Case(LIST, "an accent as macOS writes it",
         yolo(image="images/train/\u00e9.png", label="labels/train/\u00e9.txt", split="t.txt",
              files={"t.txt": "images/train/e\u0301.png\n"}), 0, "no faults"),
    Case(LIST, "paths that begin with data/",
         yolo(split="t.txt", files={"t.txt": "data/images/train/a.png\n"}), 0, "no faults"),
    Case(LIST, "paths of another machine up to data/",
         yolo(split="t.txt", files={"t.txt": "/home/me/data/images/train/a.png\n"}), 0, ""),
    Case(LIST, "the root of all folders", yolo(split="t.txt", files={"t.txt": "/\n"}), 1,
         "none of its images has a label file"),
    Case(LIST, "an image that is not there",
         yolo(split="t.txt", files={"t.txt": "images/train/b.png\n"}), 1,
         "t.txt:1: image is missing"),
    Case(LIST, "an empty list", yolo(split="t.txt", files={"t.txt": "\n"}), 1, "holds no images"),
]  # fmt: skip


# ---------------------------------------------------------------- Pascal VOC


def voc(
    name: str = "cat", codec: str = "utf-8", declared: str | None = None, split: str = "train",
    box: Sequence[float] = BOX, lines: str = "a\n", images: str = "JPEGImages",
    labels: str = "Annotations", more: str = "",
) -> Write:  # fmt: skip
    """Write one image, its annotation and, unless `lines` is empty, the list."""

    def write(folder: Path) -> Sequence[object]:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        marks = "".join(f"<{key}>{value}</{key}>" for key, value in edges)
        item = f"<object><name>{name}</name>{more}<bndbox>{marks}</bndbox></object>"
        head = f'<?xml version="1.0" encoding="{declared or codec}"?>'
        picture(folder / images / "a.png")
        text(folder / labels / "a.xml", f"{head}<annotation>{item}</annotation>".encode(codec))
        if lines:
            text(folder / "ImageSets/Main/train.txt", lines)
        return check(folder, "voc", split)

    return write


def voc_text(content: str) -> Write:
    def write(folder: Path) -> Sequence[object]:
        command = voc()(folder)
        text(folder / "Annotations/a.xml", content)
        return command

    return write


VOC = "Pascal VOC annotations"
ENCODED = [
    Case(VOC, f"XML in {codec}", voc(name, codec), 0, name)
    for codec, name in (
        *(("GBK", "猫"), ("gb2312", "猫"), ("Big5", "貓"), ("Shift_JIS", "ねこ")),
        *(("EUC-KR", "고양이"), ("windows-1251", "кот"), ("utf-16", "ネコ"), ("koi8-r", "кот")),
    )
]
VOC_CASES = [
    *ENCODED,
    Case(VOC, 'encoding="utf8"', voc("猫", "utf-8", "utf8"), 0, "猫"),
    Case(VOC, "GBK declared as gb2312", voc("喆", "gbk", "gb2312"), 0, "喆"),
    Case(VOC, "an encoding that is none of files", voc(declared="idna"), 1,
         "a.xml: cannot be read in the encoding that it declares"),
    Case(VOC, "an encoding that does not exist", voc(declared="latin-99"), 1, "latin-99"),
    Case(VOC, "GBK declared as UTF-8", voc("喆狗", "gbk", "utf-8"), 1, "a.xml:1: not valid XML"),
    Case(VOC, "no ImageSets, train: .", voc(split=".", lines=""), 0, "no faults"),
    Case(VOC, "images and XML in one folder", voc(split=".", lines="", images="", labels=""), 0,
         "no faults"),
    Case(VOC, "no ImageSets, train: train", voc(lines=""), 2,
         "expected that list, or data.train . for all annotations below {dir}"),
    Case(VOC, "a name in the list with its suffix", voc(lines="a.png\n"), 0, "no faults"),
    Case(VOC, "a line of the list twice", voc(lines="a\na\n"), 0, "image is listed twice"),
    Case(VOC, "boxes as fractions of the image", voc(box=(0.1, 0.1, 0.5, 0.5)), 1,
         "a.xml:1: all boxes are fractions of the image"),
    Case(VOC, "a coordinate of 1e999", voc(box=(1, 1, 1e999, 2)), 1, "malformed bndbox/xmax"),
    Case(VOC, "entities that expand to gigabytes", voc_text(
        '<!DOCTYPE a [<!ENTITY a "' + "a" * 1000 + '">'
        + "".join(f'<!ENTITY {b} "{f"&{a};" * 1000}">' for a, b in ("ab", "bc", "cd"))
        + "]><annotation>&d;</annotation>"), 1, "a.xml:1: not valid XML"),
    Case(VOC, "a file that ends early", voc_text("<annotation><object>"), 1, "not valid XML"),
    Case(VOC, "an escape sequence in a class name", voc_text(
        "<annotation><object><name>c&#x9b;at</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"), 0, "c\\x9bat"),
]  # fmt: skip


CASES: list[Case] = [*COCO_CASES, *YOLO_CASES, *VOC_CASES]

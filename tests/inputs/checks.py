"""Cases of tests/test_inputs.py: what check_data finds in a data set, and its options."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.inputs.annotations import BOX, HEIGHT, ROW, WIDTH, check, coco, text, voc, yolo
from tests.inputs.images import JPEG, image, progressive
from tests.support.inputs import Case

Write = Callable[[Path], Sequence[object]]


def drawn(suffix: str, seed: int = 0, shift: int = 0) -> bytes:
    """Return a smooth random picture of WIDTH x HEIGHT."""
    coarse = np.random.default_rng(seed).integers(20, 220, (5, 6, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) + np.uint8(shift)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def with_image(save: Callable[[Path], None], name: str = "a.png", *more: object) -> Write:
    """Write a YOLO set of the image that `save` writes."""

    def write(folder: Path) -> Sequence[object]:
        command = yolo()(folder)
        (folder / "images/train/a.png").unlink()
        save(folder / "images/train" / name)
        return [*command, *more]

    return write


def pillow(mode: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", (WIDTH, HEIGHT)).convert(mode).save(path, **options)


def cut(path: Path) -> None:
    content = drawn(".jpg")
    path.write_bytes(content[: len(content) // 2])


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def coco_more(part: str, **changes: Any) -> Write:
    """Add a changed copy of the image or of the annotation, with an id of its own."""

    def write(folder: Path) -> Sequence[object]:
        command = coco()(folder)
        content = json.loads((folder / "train.json").read_text())
        content[part].append({**content[part][0], "id": 2, **changes})
        text(folder / "train.json", json.dumps(content, indent=1))
        shutil.copy(folder / "images/a.png", folder / "images/b.png")
        return command

    return write


def two_splits(train: bytes, val: bytes) -> Write:
    """Write two pictures, one for each split."""

    def write(folder: Path) -> Sequence[object]:
        for split, content in (("train", train), ("val", val)):
            text(folder / f"images/{split}/{split}.png", content)
            text(folder / f"labels/{split}/{split}.txt", ROW)
        splits = ("--data.val", "images/val", "--data.names", "[cat]")
        return check(folder, "yolo", "images/train", *splits)

    return write


def options(*more: str, write: Write | None = None) -> Write:
    """Give options after the set; {dir} stands for its folder."""

    def write_and_add(folder: Path) -> Sequence[object]:
        command = (write or yolo())(folder)
        return [*command, *(word.replace("{dir}", str(folder)) for word in more)]

    return write_and_add


PIXELS = yolo("0 32 24 32 24\n")
ROUND = voc(box=(BOX[2], BOX[1], BOX[0], BOX[3]))
NAMED = ("--data.names", "[cat, dog]")
FROM_ONE = "1 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.2 0.2\n"
KIND = "Faults that check_data finds"
OPTIONS = "Options of check_data"
CASES = [
    Case(KIND, "half of a JPEG, with a right header", with_image(cut, "a.jpg"), 1,
         "damaged-image  {dir}/images/train/a.jpg: is cut short or damaged"),
    Case(KIND, "the same, with --quick", with_image(cut, "a.jpg", "--quick"), 0, "no faults"),
    Case(KIND, "the start of a JPEG, filled up with zeros", image(JPEG[:-20] + bytes(999)), 1,
         "damaged-image  {dir}/images/a.jpg: is cut short or damaged"),
    Case(KIND, "a progressive JPEG that ends between two scans", image(progressive(scans=6)), 1,
         "damaged-image  {dir}/images/a.jpg: is cut short or damaged"),
    Case(KIND, "a greyscale image", with_image(pillow("L")), 0, "info-grey-image"),
    Case(KIND, "a JPEG in CMYK", with_image(pillow("CMYK"), "a.jpg"), 0, "info-cmyk-image"),
    Case(KIND, "a PNG called .jpg", with_image(pillow("RGB", format="PNG"), "a.jpg"), 0,
         "info-wrong-suffix  {dir}/images/train/a.jpg: has the suffix of another format"),
    Case(KIND, "an image with an EXIF orientation", with_image(rotated), 0, "info-rotated-image"),
    Case(KIND, "an animated PNG", with_image(animated), 0, "info-animated-image"),
    Case(KIND, "a WebP that is stored rotated", with_image(rotated, "a.webp"), 0,
         "info-rotated-image"),
    Case(KIND, "an animated WebP", with_image(animated, "a.webp"), 0, "info-animated-image"),
    Case(KIND, "two wrong rows in a label file", yolo("cat 1\n" + ROW + "7 0.5 0.5 0.5 0.5\n"), 1,
         "{dir}/labels/train/a.txt:3: class out of range (got 7 0.5 0.5 0.5 0.5, expected 0 to 0)"),
    Case(KIND, "a row twice", yolo(ROW * 2), 1,
         "repeated-box  {dir}/labels/train/a.txt:2: repeats an earlier one"),
    Case(KIND, "a row without area", yolo("0 0.5 0.5 0 0.5\n"), 1,
         "box-without-area  {dir}/labels/train/a.txt:1: no area"),
    Case(KIND, "a row of negative height", yolo("0 0.5 0.5 0.5 -0.005\n"), 1, "box-turned-round"),
    Case(KIND, "rows in pixels", PIXELS, 1, "pixels-for-fractions  {dir}/labels/train/a.txt:1"),
    Case(KIND, "class ids that start at 1", options(*NAMED, write=yolo(FROM_ONE)), 1,
         "class-ids-from-one  {dir}/labels/train/a.txt:2: class ids seem to start at 1"),
    Case(KIND, "a label file without image", yolo(files={"labels/train/b.txt": ROW}), 1,
         "annotation-without-image  {dir}/labels/train/b.txt: no image of this name"),
    Case(KIND, "a list of images beside the labels",
         yolo(files={"labels/train/train.txt": "images/train/a.png\n"}), 0, "no faults"),
    Case(KIND, "a box outside its image", coco(bbox=[100, 10, 5, 5]), 1,
         "box-outside  {dir}/train.json:1: annotation 1: outside the image"),
    Case(KIND, "a box that reaches over the border", coco(bbox=[40, 10, 40, 10]), 1,
         "box-over-border  {dir}/train.json:1: annotation 1: reaches over the border"),
    Case(KIND, "a box of negative width", coco(bbox=[40, 10, -9, 10]), 1, "box-turned-round"),
    Case(KIND, "a box twice in a COCO file", coco_more("annotations"), 1,
         "annotation 2: repeats an earlier one"),
    Case(KIND, "two annotations of one id", coco_more("annotations", id=1, bbox=[1, 1, 9, 9]), 1,
         "repeated-annotation-id  {dir}/train.json:22: annotation 1: annotation id occurs twice"),
    Case(KIND, "two images of one id", coco_more("images", id=1, file_name="b.png"), 1,
         "repeated-image-id  {dir}/train.json:9: image 1: image id occurs twice (got b.png)"),
    Case(KIND, "an image under two ids", coco_more("images", id=2), 1,
         "repeated-image  {dir}/train.json:9: image 2: file_name occurs twice, first in image 1"),
    Case(KIND, "an annotation of an image that is not in the file", coco(image_id=9), 1,
         "annotation-without-image  {dir}/train.json:1: annotation 1: its image_id"),
    Case(KIND, "a category_id that is not in the file", coco(category_id=9), 1, "unknown-class"),
    Case(KIND, "a width and height of another image", coco(width=640), 1,
         "wrong-size  {dir}/train.json:1: image 1: stated size is not that of"),
    Case(KIND, "a VOC class that has no name", options("--data.names", "[dog]", write=voc()), 1,
         "unknown-class  {dir}/Annotations/a.xml:1: class is not among data.names (got cat"),
    Case(KIND, "a VOC box with xmin and xmax exchanged", ROUND, 1, "box is turned round"),
    Case(KIND, "an image in two splits under two names", two_splits(drawn(".png"), drawn(".png")),
         1, "val.png: the same picture is in train: {dir}/images/train/train.png"),
    Case(KIND, "an image in two splits, a little brighter",
         two_splits(drawn(".png"), drawn(".png", shift=2)), 0, "info-near-duplicate"),
    Case(KIND, "different images in two splits",
         two_splits(drawn(".png"), drawn(".png", seed=1)), 0, "no faults"),
    Case(OPTIONS, "--fix of rows in pixels", options("--fix", "{dir}/fixed", write=PIXELS), 1,
         "{dir}/fixed/labels/train/a.txt: line 1: box 0.25 0.25 0.75 0.75"),
    Case(OPTIONS, "--fix of a box that is turned round",
         options("--fix", "{dir}/fixed", write=ROUND), 1, "a.xml: object 1: box 16 12 48 36"),
    Case(OPTIONS, "--fix of a COCO box of negative width",
         options("--fix", "{dir}/fixed", write=coco(bbox=[40, 10, -9, 10])), 1,
         "{dir}/fixed/train.json: annotations[0]: box 31 10 40 20"),
    Case(OPTIONS, "--fix of a COCO box that begins outside of the image",
         options("--fix", "{dir}/fixed", write=coco(bbox=[-5, -3, 9, 9])), 1,
         "{dir}/fixed/train.json: annotations[0]: box 0 0 4 6"),
    Case(OPTIONS, "--fix into a folder that holds files", options("--fix", "{dir}"), 2,
         "--fix: is not a new or empty folder (got {dir}"),
    Case(OPTIONS, "--json into a folder that does not exist", options("--json", "{dir}/a/b.json"),
         2, "--json: cannot be written (got {dir}/a/b.json"),
    Case(OPTIONS, "--json with the name of a folder", options("--json", "{dir}"), 2,
         "--json: cannot be written"),
    Case(OPTIONS, "--json for a set without faults", options("--json", "{dir}/faults.json"), 0,
         "no faults"),
    Case(OPTIONS, "--split of a split that is not configured", options("--split", "test"), 2,
         "data.test: missing"),
    Case(OPTIONS, "--split of no split", options("--split", "all"), 2, "evaluate.split"),
    Case(OPTIONS, "--quick with a value", options("--quick", "yes"), 2, "command line"),
]  # fmt: skip

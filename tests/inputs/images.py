"""Cases of tests/test_inputs.py: images."""

import os
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.support.inputs import Case

Write = Callable[[Path], Sequence[object]]
SIDE = 64


def encoded(kind: str, mode: str = "RGB", side: int = SIDE) -> bytes:
    """Return a picture of one colour as Pillow writes it."""
    file = BytesIO()
    Image.new("RGB", (side, side), (200, 40, 20)).convert(mode).save(file, kind)
    return file.getvalue()


def deep(suffix: str, bits: int) -> bytes:
    """Return a 16-bit picture that uses the lowest `bits` bits."""
    ramp = np.linspace(0, 2**bits - 1, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    return cv2.imencode(suffix, ramp)[1].tobytes()


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG of a header, and no pixels to speak of."""
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    return content


def image(content: bytes, name: str = "a.jpg", *more: object) -> Write:
    """Write a YOLO set of this one image; the command reads it."""

    def write(folder: Path) -> Sequence[object]:
        path = folder / "images" / name
        path.parent.mkdir()
        path.write_bytes(content)
        (folder / "labels").mkdir()
        (folder / "labels" / f"{path.stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        place = ["--data_dir", folder, "--data.format", "yolo", "--data.train", "images"]
        return ["check_data", *place, "--data.names", "[cat]", "--data.img_size", 64, *more]

    return write


def special(make: Callable[[Path], None]) -> Write:
    """Put something else in the place of an image's file."""

    def write(folder: Path) -> Sequence[object]:
        command = image(b"")(folder)
        (folder / "images/a.jpg").unlink()
        make(folder / "images/a.jpg")
        (folder / "t.txt").write_text("images/a.jpg\n")
        return [*command, "--data.train", "t.txt"]

    return write


def jpeg_of(height: int, width: int) -> bytes:
    """Return a JPEG whose frame header states this size."""
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


def with_profile(size: int) -> bytes:
    """Return a JPEG with a colour profile of so many bytes."""
    file = BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "JPEG", icc_profile=bytes(size))
    return file.getvalue()


def progressive(scans: int | None = None) -> bytes:
    """Return a progressive JPEG of so many scans, or of all, without its end marker."""
    file = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    starts = [match.start() for match in re.finditer(b"\xff\xda", content)]
    return content[: -2 if scans is None else starts[scans]]


JPEG = encoded("JPEG")
PIXELS = JPEG.index(b"\xff\xda")
KIND = "Image files"
READ = [
    Case(KIND, "JPEG", image(JPEG), 0, "no faults"),
    Case(KIND, "JPEG without its end marker", image(JPEG[:-2]), 0, "no faults"),
    Case(KIND, "JPEG with a video after its end", image(JPEG + b"\0\0\0\x18ftypmp42" + bytes(99)),
         0, "no faults"),
    Case(KIND, "progressive JPEG without its end marker", image(progressive()), 0, "no faults"),
    Case(KIND, "JPEG with a colour profile of 100 kB", image(with_profile(100_000)), 0,
         "no faults"),
    Case(KIND, "JPEG in CMYK", image(encoded("JPEG", "CMYK")), 0, "no faults"),
    Case(KIND, "PNG under the name of a JPEG", image(encoded("PNG")), 0, "no faults"),
    Case(KIND, "PNG with a palette", image(encoded("PNG", "P"), "a.png"), 0, "no faults"),
    Case(KIND, "PNG of one bit per pixel", image(encoded("PNG", "1"), "a.png"), 0, "no faults"),
    Case(KIND, "PNG with transparency", image(encoded("PNG", "RGBA"), "a.PNG"), 0, "no faults"),
    Case(KIND, "WebP", image(encoded("WEBP"), "a.webp"), 0, "no faults"),
    Case(KIND, "BMP", image(encoded("BMP"), "a.bmp"), 0, "no faults"),
    Case(KIND, "TIFF", image(encoded("TIFF"), "a.tif"), 0, "no faults"),
    Case(KIND, "16-bit PNG of 12 bits", image(deep(".png", 12), "a.png"), 0,
         "{dir}/images/a.png: has more than 8 bits per channel"),
    Case(KIND, "16-bit TIFF of 10 bits", image(deep(".tiff", 10), "a.tiff"), 0,
         "more than 8 bits per channel, scaled by the range of its pixels"),
    Case(KIND, "a name that is not UTF-8", image(JPEG, os.fsdecode(b"\xe9.jpg")), 0, "no faults"),
    Case(KIND, "a name with an escape sequence", image(JPEG, "a\x1b[31m.jpg"), 0, "no faults"),
]  # fmt: skip
BAD = [
    Case(KIND, "GIF under the name of a JPEG", image(encoded("GIF")), 1,
         "is a GIF file, which is not read"),
    Case(KIND, "AVIF under the name of a JPEG", image(b"\0\0\0\x20ftypavif" + bytes(99)), 1,
         "AVIF"),
    Case(KIND, "HEIC under the name of a JPEG", image(b"\0\0\0\x18ftypheic" + bytes(99)), 1,
         "HEIC"),
    Case(KIND, "ICO under the name of a PNG", image(encoded("ICO"), "a.png"), 1, "is a ICO file"),
    Case(KIND, "an HTML page", image(b"\n<!DOCTYPE html><html>404"), 1, "is an HTML page"),
    Case(KIND, "an SVG drawing", image(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), 1, "SVG"),
    Case(KIND, "a PDF file", image(b"%PDF-1.7"), 1, "is a PDF file"),
    Case(KIND, "a Git LFS pointer", image(b"version https://git-lfs.github.com/spec/v1\n"), 1,
         "is a Git LFS pointer instead of the image"),
    Case(KIND, "text", image(b"no picture"), 1, "{dir}/images/a.jpg: not a readable image"),
    Case(KIND, "an empty file", image(b""), 1, "image has zero bytes"),
    Case(KIND, "the start of a JPEG", image(JPEG[:20]), 1, "{dir}/images/a.jpg"),
    Case(KIND, "a JPEG that ends inside its tables", image(JPEG[: PIXELS - 9]), 1,
         "{dir}/images/a.jpg: "),
    Case(KIND, "a JPEG header of 0 x 64 pixels", image(jpeg_of(0, 64)), 1, "{dir}/images/a.jpg: "),
    Case(KIND, "a JPEG header of 60000 x 60000", image(jpeg_of(60000, 60000)), 1,
         "has 3600 megapixels, more than data.max_megapixels, 256"),
    Case(KIND, "the start of a PNG", image(encoded("PNG")[:20], "a.png"), 1, "{dir}/images/a.png"),
    Case(KIND, "the start of a TIFF", image(encoded("TIFF")[:9], "a.tif"), 1, "{dir}/images/a.tif"),
    Case(KIND, "the start of a WebP", image(encoded("WEBP")[:16], "a.webp"), 1, "a.webp"),
    Case(KIND, "a PNG header of 0 pixels", image(png(0, 0), "a.png"), 1, "{dir}/images/a.png"),
    Case(KIND, "a PNG header of an impossible depth", image(png(9, 9, 99), "a.png"), 1, "a.png"),
    Case(KIND, "a PNG header of 40000 x 40000", image(png(40000, 40000), "a.png"), 1,
         "has 1600 megapixels, more than data.max_megapixels, 256"),
    Case(KIND, "a PNG header of 2^31 x 2^31 pixels", image(png(2**31, 2**31), "a.png"), 1, "a.png"),
    Case(KIND, "an image above the limit that the user sets",
         image(JPEG, "a.jpg", "--data.max_megapixels", 0.001), 1,
         "has 0.004096 megapixels, more than data.max_megapixels, 0.001"),
    Case(KIND, "a folder named a.jpg", special(Path.mkdir), 1, "not a readable image"),
    Case(KIND, "a pipe named a.jpg", special(os.mkfifo), 1, "not a file"),
    Case(KIND, "a link to a device", special(lambda path: path.symlink_to("/dev/zero")), 1,
         "not a file"),
    Case(KIND, "a link to nowhere", special(lambda path: path.symlink_to("gone")), 1,
         "image is missing"),
    Case(KIND, "a link to itself", special(lambda path: path.symlink_to(path.name)), 1,
         "image is missing"),
]  # fmt: skip


def imagenet(files: Sequence[str], split: str = "train", **lists: str) -> Write:
    """Write images and lists; the command reads a split, then packs it."""

    def write(folder: Path) -> Sequence[object]:
        for name in files:
            path = folder / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(JPEG if path.suffix == ".jpg" else b"")
        for name, content in lists.items():
            (folder / "set" / f"{name}_list.txt").write_text(content)
        place = ["--data_path", folder / "set", "--output", folder / "packed"]
        return ["to_mindrecord", *place, "--split", split, "--data.num_classes", 2]

    return write


TWO = ("train/a/1.jpg", "train/b/1.jpg")
FOLDERS = "ImageNet folders and lists"
FOLDER_CASES = [
    Case(FOLDERS, "a folder per class", imagenet(TWO), 0, "2 images"),
    Case(FOLDERS, "__MACOSX and .ipynb_checkpoints beside the classes", imagenet(
        (*TWO, "train/__MACOSX/1.jpg", "train/.ipynb_checkpoints/1.jpg")), 0, "2 images"),
    Case(FOLDERS, "an empty folder beside the classes", imagenet((*TWO, "train/c/x.txt")), 0,
         "2 images"),
    Case(FOLDERS, "a list with labels", imagenet(TWO, train="a/1.jpg 1\nb/1.jpg 0\n"), 0, ""),
    Case(FOLDERS, "a list with ./ and backslashes",
         imagenet(TWO, train="./a/1.jpg 1\nb\\1.jpg 0\n"), 0, "2 images"),
    Case(FOLDERS, "a list with a line twice",
         imagenet(TWO, train="a/1.jpg 0\n" * 2 + "b/1.jpg 1\n"), 0, "2 images"),
    Case(FOLDERS, "a label of twelve digits", imagenet(("train/1.jpg",), train="1.jpg " + "9" * 12),
         2, "{dir}/set/train_list.txt:1: label out of range"),
    Case(FOLDERS, "a label of 5000 digits", imagenet(("train/1.jpg",), train="1.jpg " + "9" * 5000),
         2, "{dir}/set/train_list.txt:1: label out of range"),
    Case(FOLDERS, "a label that is negative", imagenet(("train/1.jpg",), train="1.jpg -1"), 2,
         "train_list.txt:1: not a line of an image list"),
    Case(FOLDERS, "a list of an image that is not there", imagenet(TWO, train="a/2.jpg 0\n"), 2,
         "train_list.txt:1: image is missing"),
    Case(FOLDERS, "no images at all", imagenet(("train/a/x.txt",)), 2, "{dir}/set/train"),
    Case(FOLDERS, "a class that the training split does not have",
         imagenet((*TWO, "val/c/1.jpg"), "val"), 2, "c: is a class that the training split"),
    Case(FOLDERS, "another number of classes", imagenet(TWO[:1]), 2, "data.num_classes: disagrees"),
]  # fmt: skip

CASES: list[Case] = [*READ, *BAD, *FOLDER_CASES]

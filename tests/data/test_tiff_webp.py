"""TIFF with alpha, and images with an orientation, are decoded as Pillow does it."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mindyolo_v4.data.images import ImageReadError, decode_image, read_image
from mindyolo_v4.data.readers.headers import read_header

RGBA = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_alpha_is_left_out(tmp_path: Path, compression: str | None, orientation: int) -> None:
    path = tmp_path / "a.tif"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGBA).save(path, compression=compression, exif=exif)
    expected = RGBA[..., :3] if orientation == 1 else np.rot90(RGBA[..., :3], -1)
    np.testing.assert_array_equal(read_image(path), expected)


def test_alpha_of_16_bits_is_left_out(tmp_path: Path) -> None:
    deep = RGBA.astype(np.uint16) << 8 | 255
    cv2.imwrite(str(tmp_path / "a.tif"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGBA[..., 2::-1])


def test_a_tiff_with_alpha_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    large = np.tile(RGBA, (50, 50, 1))
    Image.fromarray(large).save(path)
    path.write_bytes(path.read_bytes()[: large.nbytes // 2])
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_images_are_turned(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGBA[..., :3]).save(path, lossless=True, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    np.testing.assert_array_equal(read_image(path), np.asarray(upright))


XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
SHORT = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
LONG = struct.pack(">2sHIHHHIII", b"MM", 42, 8, 1, 0x0112, 4, 1, 6, 0)


def encoded(kind: str) -> bytes:
    file = BytesIO()
    Image.fromarray(RGBA[..., :3]).save(file, kind)
    return file.getvalue()


def jpeg(*contents: bytes) -> bytes:
    """Return a JPEG with these application segments first."""
    plain = encoded("JPEG")
    segments = [b"\xff\xe1" + struct.pack(">H", len(one) + 2) + one for one in contents]
    return b"".join([plain[:2], *segments, plain[2:]])


def png(exif: bytes, mark: bytes) -> bytes:
    """Return a PNG with EXIF before the chunk of this kind."""
    plain = encoded("PNG")
    start = plain.index(mark) - 4
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    return plain[:start] + chunk + plain[start:]


@pytest.mark.parametrize(
    ("content", "orientation"),
    [
        (jpeg(b"Exif\0\0" + SHORT), 6),
        (jpeg(b"Exif\0\0" + LONG), 6),
        (jpeg(XMP, b"Exif\0\0" + SHORT), 6),
        (jpeg(XMP), 1),
        (png(SHORT, b"IDAT"), 6),
        (png(LONG, b"IDAT"), 6),
        (png(SHORT, b"IEND"), 1),
    ],
    ids=["JPEG", "JPEG LONG", "JPEG XMP first", "JPEG XMP", "PNG", "PNG LONG", "PNG late"],
)
@pytest.mark.parametrize("factor", [1, 2])
def test_header_and_pixels_have_one_orientation(
    tmp_path: Path, content: bytes, orientation: int, factor: int
) -> None:
    path = tmp_path / ("a.png" if content.startswith(b"\x89PNG") else "a.jpg")
    path.write_bytes(content)
    header = read_header(path, 256)
    plain = np.frombuffer(encoded("PNG" if path.suffix == ".png" else "JPEG"), np.uint8)
    upright = decode_image(plain, "x", factor)
    expected = np.rot90(upright, -1) if orientation == 6 else upright
    image = decode_image(np.frombuffer(content, np.uint8), path, factor)
    np.testing.assert_array_equal(image, expected)
    assert header.orientation == orientation
    assert (header.height > header.width) == (orientation == 6)

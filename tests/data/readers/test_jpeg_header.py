"""Sizes in the segments of a JPEG, against Pillow, and the files that are left to it."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.data.readers.jpeg_header import has_all_scans, jpeg_size, plain_jpeg_size

NOISE = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(NOISE).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def plain(folder: Path, content: bytes, name: str = "a.jpg") -> tuple[int, int] | None:
    (folder / name).write_bytes(content)
    return plain_jpeg_size(folder / name)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"icc_profile": bytes(9000)}, {"comment": b"\xff\xc0 as text"}],
    ids=["baseline", "progressive", "profile", "comment"],
)
def test_plain_files_are_read(tmp_path: Path, options: dict[str, object]) -> None:
    content = jpeg(**options)
    assert jpeg_size(memoryview(content)) == (23, 17)
    assert plain(tmp_path, content, "a.JPEG") == (23, 17)


def test_files_that_need_a_closer_look(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg()
    pixels = content.index(b"\xff\xda")
    frame = content.index(b"\xff\xc0")
    no_height = content[: frame + 5] + b"\0\0" + content[frame + 7 :]
    assert plain(tmp_path, jpeg(exif=exif)) is None
    assert plain(tmp_path, jpeg("L")) is None
    assert plain(tmp_path, jpeg("CMYK")) is None
    assert plain(tmp_path, content[:pixels]) is None
    assert plain(tmp_path, no_height) is None
    assert plain(tmp_path, jpeg(icc_profile=bytes(20_000))) is None
    assert plain(tmp_path, content, "a.png") is None
    assert plain(tmp_path, b"") is None
    with pytest.raises(FileNotFoundError):
        plain_jpeg_size(tmp_path / "gone.jpg")
    assert jpeg_size(memoryview(b"\x89PNG" + content)) is None


def test_the_last_scan_completes_a_progressive_image() -> None:
    assert has_all_scans(memoryview(jpeg()))
    content = jpeg(progressive=True)
    scans = [match.start() for match in re.finditer(b"\xff\xda", content)]
    assert len(scans) > 5
    assert has_all_scans(memoryview(content[:-2]))
    assert not any(has_all_scans(memoryview(content[: scan + 4])) for scan in scans)
    assert not any(has_all_scans(memoryview(content[:scan])) for scan in scans)

"""Every image is decoded, and equal pictures are found whatever their file."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mindyolo_v4.data.image_check import ReadBytes, decode_all, note_shared
from mindyolo_v4.data.images import read_encoded
from mindyolo_v4.data.readers.faults import Faults


def write(path: Path, seed: int, shift: int = 0, *parameters: int) -> Path:
    coarse = np.random.default_rng(seed).integers(20, 220, (5, 6, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (90, 70), interpolation=cv2.INTER_CUBIC) + np.uint8(shift)
    cv2.imwrite(str(path), pixels, parameters)
    return path


def readers(paths: list[Path]) -> dict[Path, ReadBytes]:
    return {path: partial(read_encoded, path) for path in paths}


def test_what_cannot_be_decoded_is_named_and_the_rest_kept_in_order(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.jpg", number) for number in range(4)]
    paths[1].write_bytes(paths[1].read_bytes()[:1500])
    paths[2].unlink()
    faults = Faults(collects=True)
    pictures = decode_all(readers(paths), 256.0, 2, faults, "train")
    assert [picture.path for picture in pictures] == [paths[0], paths[3]]
    assert [(fault.kind, fault.file) for fault in faults.found] == [
        ("damaged-image", str(paths[1])),
        ("damaged-image", str(paths[2])),
    ]
    assert "cut short or damaged" in faults.found[0].message


def test_equal_and_similar_pictures(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    first = [write(tmp_path / "train" / f"{number}.png", number) for number in range(20)]
    level_0 = (cv2.IMWRITE_PNG_COMPRESSION, 0)
    second = [
        write(tmp_path / "val/same.png", 3, 0, *level_0),  # equal pixels, other bytes
        write(tmp_path / "val/jpeg.jpg", 5, 0, cv2.IMWRITE_JPEG_QUALITY, 90),
        write(tmp_path / "val/brighter.png", 7, 4),
        write(tmp_path / "val/other.png", 99),
    ]
    faults = Faults(collects=True)
    pictures = [decode_all(readers(paths), 256.0, 1, faults, "x") for paths in (first, second)]
    note_shared(pictures[0], pictures[1], "train", faults)
    found = {(Path(fault.file).name, fault.kind, fault.message) for fault in faults.found}
    near = "looks nearly like a picture of train: "
    assert found == {
        ("same.png", "shared-image", f"the same picture is in train: {first[3]}"),
        ("jpeg.jpg", "info-near-duplicate", f"{near}{first[5]}"),
        ("brighter.png", "info-near-duplicate", f"{near}{first[7]}"),
    }

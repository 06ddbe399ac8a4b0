"""YOLO text labels: one file per image, one row per box, `class cx cy w h` in fractions.

A row of a class and three or more points (`class x1 y1 x2 y2 x3 y3 ...`, a polygon) counts as the
box around it.
"""

import math
import os
from pathlib import Path
from typing import Any

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names, names_beside_labels
from mindyolo_v4.data.readers.files import read_lines
from mindyolo_v4.data.readers.ground_truth import ListedImage, RawBox, build_records
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

# fractions may leave [0, 1] by this much: rounding and unclipped boxes, not pixels
_TOLERANCE = 0.01


def read_yolo(data: DataConfig, root: Path, key: str, split: Any, check_headers: bool) -> Dataset:
    """Read a list file or an image folder with its label files.

    All headers are read, since a box means nothing without the size of its image.

    Args:
        key: configuration key of the split, for messages.
        split: list of images (`*.txt`), or folder (searched with its subfolders; also below
            `root`/images).

    Raises:
        UserError: names the list or label file and the line that is wrong.
    """
    expected = "a list file or an image folder"
    if not isinstance(split, str):
        raise UserError(key, "not a split of data.format yolo", split, expected)
    names = configured_names(data, root) or names_beside_labels(root)
    source = next((path for path in (root / split, root / "images" / split) if path.exists()), None)
    if source is None:
        raise UserError(key, "not found", str(root / split), expected)
    images = _folder_images(source) if source.is_dir() else _list_images(source, root)
    if not images:
        expected = f"files {' '.join(IMAGE_SUFFIXES)}, or a list of them"
        raise UserError(source, "holds no images", None, expected)
    listed = []
    boxes: list[RawBox] = []
    labelled = 0
    for index, (path, entry) in enumerate(images):
        candidates = label_candidates(path, root)
        label = next((candidate for candidate in candidates if candidate.is_file()), None)
        listed.append(ListedImage(path, index + 1, str(label or candidates[0]), entry))
        if label:
            labelled += 1
            boxes += _read_labels(label, index, len(names))
    if not labelled:
        expected = " or ".join(map(str, label_candidates(images[0][0], root)))
        raise UserError(source, "none of its images has a label file", str(images[0][0]), expected)
    records, warnings = build_records(listed, boxes, check_headers=True, are_fractions=True)
    return Dataset(records, names, tuple(range(1, len(names) + 1)), str(source), warnings)


def _folder_images(folder: Path) -> list[tuple[Path, str]]:
    """Return the images below the folder, sorted, each with its name for messages."""
    paths = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
    ]
    return [(path, str(path)) for path in sorted(paths)]


def _list_images(source: Path, root: Path) -> list[tuple[Path, str]]:
    """Return the images of a list, each with its line; relative to `root`, else to the list."""
    images = []
    for number, line in enumerate(read_lines(source), 1):
        name = line.strip()
        if not name:
            continue
        entry = f"{source}:{number}"
        folders = (root, source.parent)
        candidates = [Path(os.path.normpath(folder / name)) for folder in folders]
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            expected = f"a file in {root} or {source.parent}"
            raise UserError(entry, "image is missing", name, expected)
        images.append((path, entry))
    return images


def label_candidates(image: Path, root: Path) -> list[Path]:
    """Return where an image's labels may lie, best first.

    `labels` for the last `images` in the path below `root` (anywhere, when it lies elsewhere), then
    `root`/labels with the same subfolders, then beside the image.
    """
    inside = image.is_relative_to(root)
    head = root if inside else Path(image.anchor)
    parts = image.relative_to(head).parts
    name = f"{image.stem}.txt"
    candidates = []
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        candidates.append(head.joinpath(*parts[:last], "labels", *parts[last + 1 : -1], name))
    if inside:
        candidates.append(root.joinpath("labels", *parts[:-1], name))
    return list(dict.fromkeys([*candidates, image.with_name(name)]))


def _read_labels(label: Path, image: int, class_count: int) -> list[RawBox]:
    boxes = []
    for number, line in enumerate(read_lines(label), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = [float(text) for text in fields]
        except ValueError:
            expected = "class cx cy w h"
            raise UserError(f"{label}:{number}", "not numbers", line.strip(), expected) from None
        fault = _fault(values, class_count)
        if fault:
            problem, expected = fault
            raise UserError(f"{label}:{number}", problem, line.strip()[:80], expected)
        boxes.append(RawBox(image, _corners(values[1:]), int(values[0]), f":{number}"))
    return boxes


def _fault(values: list[float], class_count: int) -> tuple[str, str] | None:
    """Return what is wrong with a row as (problem, expected), or None."""
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        return "wrong number of fields", "class cx cy w h, or class and three or more points"
    if not all(map(math.isfinite, values)):
        return "not finite", "class cx cy w h"
    if values[0] not in range(class_count):
        return "class out of range", f"0 to {class_count - 1}"
    if min(values[1:]) < -_TOLERANCE or max(values[1:]) > 1 + _TOLERANCE:
        return "coordinates are not fractions of the image", "0 to 1"
    if len(values) == 5 and min(values[3:]) < 0:
        return "negative width or height", "0 to 1"
    return None


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])

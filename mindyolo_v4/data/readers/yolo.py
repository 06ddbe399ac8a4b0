"""YOLO text labels: one file per image, one row per box, `class cx cy w h` in fractions.

A row of a class and three or more points (`class x1 y1 x2 y2 x3 y3 ...`, a polygon) counts as the
box around it. Rows for poses have key points after the box, which are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names, names_beside_labels
from mindyolo_v4.data.readers.faults import Edit, FaultError, Faults, Location, annotation_lines
from mindyolo_v4.data.readers.files import (
    FileFinder,
    files_below,
    files_of,
    first_present,
    plain_name,
    spellings,
)
from mindyolo_v4.data.readers.ground_truth import build_records, warn_of_unlabelled
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.readers.raw import ListedImage
from mindyolo_v4.data.readers.yolo_rows import read_rows
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

_MANY = 0.1  # share of images without a label file that is worth a warning
_FIELDS = 5  # of a row of class and box
_START_BYTES = 4096  # of a text file, that hold such a row
_SPLIT = "a list file or an image folder"
_NO_LABELS = ("classes.txt", "notes.txt")  # that labelling tools write beside the labels


def read_yolo(data: DataConfig, root: Path, key: str, split: Any, faults: Faults) -> Dataset:
    """Read list files or image folders with their label files.

    Args:
        key: configuration key of the split, for messages.
        split: list of images (`*.txt`), or folder (searched with its subfolders; also below
            `root`/images); or a list of such, whose images follow one another.

    Raises:
        UserError: names the list or label file and the line that is wrong.
    """
    if not isinstance(split, str | list):
        raise UserError(key, "not a split of data.format yolo", split, _SPLIT)
    names = configured_names(data, root) or names_beside_labels(root)
    sources = [_source(path, root, key) for path in (split if isinstance(split, list) else [split])]
    source = ", ".join(map(str, sources))
    listed = [image for path in sources for image in _images(path, root, faults)]
    paths = [image.path for image in listed]
    labels = _find_labels(paths, root)
    listed = [
        replace(image, image_id=number, label_path="" if label is None else str(label))
        for number, (image, label) in enumerate(zip(listed, labels, strict=True), 1)
    ]
    expected = " or ".join(map(str, label_candidates(paths[0], root)))
    warn_of_unlabelled(listed, source, "a label file", expected, _MANY, faults)
    if faults.collects:
        _note_labels_without_image(paths, labels, faults)
    boxes = read_rows(list(zip(paths, labels, strict=True)), len(names), data, root, faults)
    records = build_records(listed, boxes, faults, data.max_megapixels, are_fractions=True)
    ids = tuple(range(1, len(names) + 1))
    return Dataset(records, names, ids, source, tuple(faults.warnings), tuple(sources))


def _source(split: str, root: Path, key: str) -> Path:
    """Return the list or folder that a split names. Raises UserError where there is none."""
    source = first_present((root, root / "images"), spellings(split, is_typed=True))
    if source is None or not (source.is_dir() or source.is_file()):
        raise UserError(key, "not found", str(root / split), _SPLIT)
    return source


def _images(source: Path, root: Path, faults: Faults) -> list[ListedImage]:
    """Return the images of a list or folder. Raises FaultError where there are none."""
    listed = _folder_images(source) if source.is_dir() else _list_images(source, root, faults)
    if not listed:
        expected = f"files {' '.join(IMAGE_SUFFIXES)}, or a list of them"
        raise FaultError("no-images", Location(str(source)), "holds no images", None, expected)
    return listed


def _note_labels_without_image(
    images: Sequence[Path], labels: Sequence[Path | None], faults: Faults
) -> None:
    """Report the label files beside those of the images that belong to no image at all."""
    folders: dict[Path, set[Path]] = {}
    for image, label in zip(images, labels, strict=True):
        if label is not None:
            folders.setdefault(label.parent, set()).add(image.parent)
    for folder, image_folders in folders.items():
        stems = {
            plain_name(Path(name).stem)
            for image_folder in image_folders
            for name in files_of(image_folder, IMAGE_SUFFIXES)
        }
        for name in sorted(files_of(folder, (".txt",))):
            has_image = plain_name(Path(name).stem) in stems
            if not has_image and name not in _NO_LABELS and _may_be_labels(folder / name):
                locations = ", ".join(map(str, sorted(image_folders)))
                problem = f"no image of this name in {locations}"
                faults.note("annotation-without-image", Location(str(folder / name)), problem)


def _may_be_labels(path: Path) -> bool:
    """Tell whether the first line of a text file is a row of numbers, and no path or name."""
    try:
        with path.open("rb") as file:
            lines = file.read(_START_BYTES).splitlines()
    except OSError:
        return True
    fields = next((line.split() for line in lines if line.strip()), [])
    try:
        return all(math.isfinite(float(field)) for field in fields[:_FIELDS])
    except ValueError:
        return False


def _folder_images(folder: Path) -> list[ListedImage]:
    """Return the images below the folder, sorted."""
    paths = sorted(folder / name for name in files_below(folder))
    return [ListedImage(path, 0, "", Location(str(path))) for path in paths]


def _list_images(source: Path, root: Path, faults: Faults) -> list[ListedImage]:
    """Return the images of a list, relative to `root`, else to the list."""
    images = []
    for number, line in enumerate(annotation_lines(source), 1):
        name = line.strip()
        if not name:
            continue
        entry = Location(str(source), number)
        removal = Edit(str(source), "line", number, None)
        path = first_present((root, source.parent), spellings(name))
        if path is None:
            folders = dict.fromkeys((str(root), str(source.parent)))
            expected = f"a file in {' or '.join(folders)}"
            problem = "image is missing"
            faults.refuse("missing-image", entry, problem, name, expected, removal)
            continue
        images.append(ListedImage(path, 0, "", entry, removal=removal))
    return images


def _find_labels(images: Sequence[Path], root: Path) -> list[Path | None]:
    """Return the label file of every image; its capitals may differ from those of the image."""
    finder = FileFinder()
    labels: list[Path | None] = []
    stems: set[tuple[Path, str]] = set()
    for image in images:
        found = (finder.find(path) for path in label_candidates(image, root))
        label = next((path for path in found if path is not None), None)
        if label is not None and label.stem != image.stem:
            # a.txt belongs to a.jpg rather than to A.jpg
            stems = stems or {(path.parent, path.stem) for path in images}
            label = None if (image.parent, label.stem) in stems else label
        labels.append(label)
    return labels


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
    return list(dict.fromkeys([*candidates, image.parent / name]))

"""ImageNet's layout: one folder per class below each split, or lists of `path label` lines."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import recipes_folder
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.readers.class_names import check_class_count, configured_names
from mindyolo_v4.data.readers.faults import (
    Edit,
    FaultError,
    Faults,
    Kind,
    Location,
    annotation_lines,
)
from mindyolo_v4.data.readers.files import (
    IMAGE_SUFFIXES,
    data_root,
    files_below,
    is_data_folder,
    user_path,
)
from mindyolo_v4.data.readers.headers import read_headers, warn_of_deep
from mindyolo_v4.errors import UserError, printable

_MOST_CLASSES = 100_000
_EIGHT_BITS = (".jpg", ".jpeg")  # suffixes of images that never have more
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class _Line:
    """One image of a list."""

    name: str  # relative to the split's folder
    label: int
    entry: Location

    @property
    def folder(self) -> str:
        """Return the class's folder, "" where the image lies in none."""
        return self.name.rpartition("/")[0].partition("/")[0]


def holds_synsets(root: str | Path) -> bool:
    """Tell whether a folder is ImageNet's: it holds train/<wnid>/."""
    train = user_path(root) / "train"
    return train.is_dir() and any(
        _SYNSET.fullmatch(path.name) and path.is_dir() for path in train.iterdir()
    )


def suggest_recipe(overrides: Iterable[tuple[str, str]]) -> Path:
    """Return the recipe for a command without --config, by the data set that it names."""
    root = dict(overrides).get("data.root")
    reason = ""
    recipe = recipes_folder() / "yolov4/yolov4.yaml"
    if root is not None and holds_synsets(root):
        reason = f", since {printable(str(root))} holds train/<wnid>/"
        recipe = recipes_folder() / "cspdarknet53/imagenet.yaml"
    print(f"no --config given: using {recipe}{reason}", file=sys.stderr, flush=True)
    return recipe


def read_imagenet(data: DataConfig, split: str, faults: Faults | None = None) -> ClassImages:
    """Read one split: `<split>_list.txt` beside its folder where there is one, else class folders.

    Classes are numbered in the order of the sorted folders of the training split, unless the list
    of the training split says otherwise. Class names are the folders' names, or `data.names` in the
    order of the classes.

    Args:
        split: "train", "val" or "test", the configuration key that names the folder below the root.
        faults: takes what is wrong; by default the first fault is raised.

    Raises:
        UserError: names the configuration key, or the list and its line, that is wrong.
    """
    faults = faults or Faults()
    root = data_root(data)
    folder = root / _location(data, split)
    listing = _list_beside(folder)
    if not folder.is_dir():
        raise UserError(f"data.{split}", "folder not found", str(folder))
    lines = _read_list(folder, root, faults) if listing.is_file() else None
    labels, names = _classes(data, root, folder, lines, faults)
    if lines is None:
        source = str(folder)
        images = _folder_images(folder, labels, faults)
    else:
        source = str(listing)
        lines = _with_right_labels(lines, labels, len(names), faults)
        lines = _with_files(lines, folder, listing, faults)
        images = [(line.name, line.label) for line in lines]
    check_class_count(data, names, source)
    if not images:
        expected = f"<class>/*{IMAGE_SUFFIXES[1].upper()} or the like"
        raise FaultError("no-images", Location(source), "holds no images", None, expected)
    if not faults.collects:  # tools.check_data reads all headers
        _warn_of_deep(folder, [name for name, _ in images], data.max_megapixels, faults)
    encoded = np.array([os.fsencode(name) for name, _ in images], np.bytes_)
    ids = np.array([label for _, label in images], np.int32)
    return ClassImages(folder, encoded, ids, names, source, tuple(faults.warnings))


def _location(data: DataConfig, split: str) -> str:
    location = data.splits[split]
    if not isinstance(location, str):
        problem = "not a split of data.format imagenet"
        raise UserError(f"data.{split}", problem, location, "a folder below data.root")
    return location.rstrip("/")


def _list_beside(folder: Path) -> Path:
    return folder.parent / f"{folder.name}_list.txt"


def _class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and is_data_folder(path.name) and any(True for _ in files_below(path))
    )


def _classes(
    data: DataConfig, root: Path, folder: Path, lines: list[_Line] | None, faults: Faults
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the label of every class folder, and the class names in the order of the labels."""
    names = configured_names(data, root)
    train = root / data.train if isinstance(data.train, str) else folder
    if names and set(_class_folders(folder)) <= set(names):
        # the names are the folders', as a checkpoint's are
        return {name: label for label, name in enumerate(names)}, names
    if _list_beside(train).is_file():
        labels = _listed_labels(_read_list(train, root, faults), faults)
    elif folders := _class_folders(train) or _class_folders(folder):
        labels = {name: label for label, name in enumerate(folders)}
    else:
        labels = _listed_labels(lines or [], faults)
    if names and labels and len(names) != len(labels):
        problem = f"not as many as the class folders of {train}"
        expected = f"{len(labels)}; without data.names, the classes of the weights are compared"
        raise UserError("data.names", problem, len(names), expected)
    return labels, names or _folder_names(labels, lines or [], folder)


def _folder_names(labels: Mapping[str, int], lines: list[_Line], folder: Path) -> tuple[str, ...]:
    """Return the folders' names by label; where there are no folders, the labels themselves."""
    if not labels:
        if not lines:
            problem = "holds no class folders, and has no list beside it"
            raise UserError(folder, problem, expected="train/<wnid>/*.JPEG")
        return tuple(str(label) for label in range(1 + max(line.label for line in lines)))
    count = len(labels)
    by_label = {label: name for name, label in labels.items()}
    missing = [label for label in range(count) if label not in by_label]
    if missing:
        problem = f"its list gives {count} classes labels that are not 0 to {count - 1}"
        raise UserError(folder, problem, missing[0])
    return tuple(by_label[label] for label in range(count))


def _read_list(folder: Path, root: Path, faults: Faults) -> list[_Line]:
    """Read the list beside a folder."""
    path = _list_beside(folder)
    begins = [f"{name}/" for name in (folder, os.path.relpath(folder, root), folder.name)]
    lines = []
    for number, text in enumerate(annotation_lines(path), 1):
        if not text.strip():
            continue
        *name, label = text.rsplit(maxsplit=1)
        where = Location(str(path), number)
        if not name or not label.isdecimal():
            got = text.strip()[:80]
            expected = "relative/path label"
            _refuse("malformed-row", where, "not a line of an image list", got, expected, faults)
            continue
        if len(label) > len(str(_MOST_CLASSES)) or int(label) >= _MOST_CLASSES:
            expected = f"0 to {_MOST_CLASSES - 1}"
            _refuse("unknown-class", where, "label out of range", label[:80], expected, faults)
            continue
        lines.append(_Line(_inside(name[0].strip(), folder, begins), int(label), where))
    return lines


def _inside(name: str, folder: Path, begins: Iterable[str]) -> str:
    """Return the path of an image relative to the split's folder, with which it may begin.

    It may have ./ before it, and the backslashes of Windows.
    """
    if "\\" in name and not (folder / name).is_file():
        name = name.replace("\\", "/")
    name = os.path.normpath(name)
    return name.removeprefix(next((begin for begin in begins if name.startswith(begin)), ""))


def _refuse(
    kind: Kind, line: Location, problem: str, got: object, expected: object, faults: Faults
) -> None:
    """Report a line of a list, whose removal mends it."""
    faults.refuse(kind, line, problem, got, expected, Edit(line.file, "line", line.line, None))


def _listed_labels(lines: list[_Line], faults: Faults) -> dict[str, int]:
    """Return the label that a list gives each folder; each label belongs to one folder."""
    labels: dict[str, int] = {}
    folders: dict[int, str] = {}
    for line in lines:
        folder = line.folder
        if not folder:
            continue
        if labels.setdefault(folder, line.label) != line.label:
            problem = f"labels folder {folder} otherwise than a line before"
            _refuse("unknown-class", line.entry, problem, line.label, labels[folder], faults)
        elif folders.setdefault(line.label, folder) != folder:
            problem = f"gives folder {folder} the label of folder {folders[line.label]}"
            _refuse("unknown-class", line.entry, problem, line.label, None, faults)
    return labels


def _with_right_labels(
    lines: list[_Line], labels: Mapping[str, int], classes: int, faults: Faults
) -> list[_Line]:
    """Return the lines of a split that agree with the classes."""
    right = []
    for line in lines:
        folder = line.folder
        if line.label >= classes:
            expected: object = f"0 to {classes - 1}"
            problem = "label out of range"
            _refuse("unknown-class", line.entry, problem, line.label, expected, faults)
        elif folder and folder not in labels:
            problem = "its folder is not among the classes"
            _refuse("unknown-class", line.entry, problem, folder, None, faults)
        elif folder and labels[folder] != line.label:
            problem = f"disagrees with the label of folder {folder}"
            expected = labels[folder]
            _refuse("unknown-class", line.entry, problem, line.label, expected, faults)
        else:
            right.append(line)
    return right


def _with_files(lines: list[_Line], folder: Path, listing: Path, faults: Faults) -> list[_Line]:
    """Return the lines whose image is there, each image once; warn of images without a line."""
    files = set(files_below(folder))
    present: dict[str, _Line] = {}
    repeated = []
    for line in lines:
        if line.name not in files:
            expected = f"a file in {folder}"
            problem = "image is missing"
            _refuse("missing-image", line.entry, problem, line.name, expected, faults)
            continue
        first = present.setdefault(line.name, line)
        if first.label != line.label:
            problem = f"labels the image otherwise than line {first.entry.line}"
            _refuse("unknown-class", line.entry, problem, line.label, first.label, faults)
        elif first is not line:
            repeated.append((line, first))
    if repeated:
        line, first = repeated[0]
        problem = f"image is listed twice, first at {first.entry}"
        problem += f"; {len(repeated)} repeated lines are left out"
        faults.warn("info-repeated-line", line.entry, problem)
    unlisted = files - {line.name for line in lines}
    if unlisted:
        problem = f"does not name {len(unlisted)} images of {folder}, such as {min(unlisted)}"
        faults.warn("info-unused-image", Location(str(listing)), problem)
    return list(present.values())


def _folder_images(
    folder: Path, labels: Mapping[str, int], faults: Faults
) -> list[tuple[str, int]]:
    """Return the files and labels of all class folders."""
    images = []
    for name in _class_folders(folder):
        if name not in labels:
            problem = "is a class that the training split does not have"
            faults.refuse("unknown-class", Location(str(folder / name)), problem)
            continue
        files = sorted(f"{name}/{file}" for file in files_below(folder / name))
        images += [(file, labels[name]) for file in files]
    return images


def _warn_of_deep(
    folder: Path, names: Iterable[str], max_megapixels: float, faults: Faults
) -> None:
    """Warn of images of more than 8 bits per channel, by the headers of those that are no JPEG."""
    paths = [folder / name for name in names if not name.lower().endswith(_EIGHT_BITS)]
    locations = [Location(str(path)) for path in paths]
    headers = read_headers(paths, locations, max_megapixels, Faults(collects=True))
    warn_of_deep(paths, headers, faults)

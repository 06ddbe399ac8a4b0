"""COCO JSON: one file per split, images found by their names.

https://cocodataset.org/#format-data; only `images`, `categories` and, of `annotations`, bbox,
category_id, image_id, iscrowd and area are read.
"""

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names
from mindyolo_v4.data.readers.coco_classes import is_integer, read_classes
from mindyolo_v4.data.readers.coco_file import CocoFile, load_coco
from mindyolo_v4.data.readers.faults import Edit, FaultError, Faults, Kind, Location
from mindyolo_v4.data.readers.files import first_present, spellings
from mindyolo_v4.data.readers.ground_truth import build_records
from mindyolo_v4.data.readers.raw import ListedImage, RawBox
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError, require

_LARGEST = 1e12  # a number beyond is neither a coordinate nor an area
_PROBES = 5  # images that are looked for in a folder before it is taken for the right one


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector, which would visit all entries of a large file many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collector()
def read_coco(data: DataConfig, root: Path, key: str, split: Any, faults: Faults) -> Dataset:
    """Read a COCO annotation file.

    Classes are the file's categories by ascending id, or data.names, which must be the same set.

    Args:
        key: configuration key of the split, for messages.
        split: annotation file relative to `root`, or {annotations: FILE, images: DIR}.

    Raises:
        UserError: names the file, and the image or annotation in it, that is wrong.
    """
    if isinstance(split, list):
        raise UserError(key, "not a split of data.format coco", split, "one annotation file")
    location = split if isinstance(split, dict) else {"annotations": split}
    source = first_present((root,), spellings(location["annotations"], is_typed=True))
    if source is None or not source.is_file():
        absent = str(root / location["annotations"])
        raise UserError(key, "annotation file not found", absent, "a COCO JSON file")
    file = load_coco(source, with_lines=faults.collects)
    given = configured_names(data, root)
    names, class_of = read_classes(file, given, faults)
    images, index_of = _images(file, faults)
    if location.get("images") is None:
        folder = find_image_folder(source, root, images, key)
    else:
        folder = root / location["images"]
        require(folder.is_dir(), f"{key}.images", "folder not found", str(folder))
    listed = [
        ListedImage(
            path=_image_path(folder, image.name),
            image_id=image.image_id,
            label_path=str(source),
            entry=image.location,
            stated_size=image.stated_size,
            removal=image.removal,
        )
        for image in images
    ]
    boxes = _boxes(file, index_of, class_of, faults)
    records = build_records(listed, boxes, faults, data.max_megapixels, have_ids=True)
    first_ids = {class_id: category_id for category_id, class_id in reversed(class_of.items())}
    category_ids = tuple(first_ids[class_id] for class_id in range(len(names)))
    return Dataset(records, names, category_ids, str(source), tuple(faults.warnings))


def _image_path(folder: Path, name: str) -> Path:
    """Return where an image lies; most names need no look at the disk."""
    names = spellings(name)
    path = first_present((folder,), names) if len(names) > 1 else None
    return path or folder / name


class _Image(NamedTuple):
    """One entry of `images`."""

    image_id: int | str
    name: str
    stated_size: tuple[int, int] | None
    location: Location
    removal: Edit


def _images(file: CocoFile, faults: Faults) -> tuple[list[_Image], dict[int | str, int]]:
    """Return the images and the position of each image id in their list.

    An id of an image that an earlier entry names has the position of that entry.
    """
    images: list[_Image] = []
    index_of: dict[int | str, int] = {}
    id_of: dict[str, int | str] = {}
    for number, entry in enumerate(file.entries("images")):
        removal = Edit(str(file.source), "images", number, None)
        image_id: Any = entry.get("id")
        name = entry.get("file_name")
        if not is_integer(image_id) and not isinstance(image_id, str):
            location = file.location("images", number)
            problem = "id is not an integer or a string"
            faults.refuse("malformed-entry", location, problem, image_id, edit=removal)
            continue
        location = file.location("images", number, f"image {image_id}")
        if not isinstance(name, str) or not name:
            faults.refuse("malformed-entry", location, "has no file_name", edit=removal)
            continue
        if image_id in index_of:
            faults.refuse("repeated-image-id", location, "image id occurs twice", name)
            continue
        if name in id_of:
            problem = f"file_name occurs twice, first in image {id_of[name]}"
            faults.refuse("repeated-image", location, problem, name)
            index_of[image_id] = index_of[id_of[name]]  # its annotations are those of the first
            continue
        size: Any = (entry.get("width"), entry.get("height"))
        if size == (None, None):
            size = None
        elif all(_is_number(side) and round(side) > 0 for side in size):
            size = (round(size[0]), round(size[1]))
        else:
            expected = "two positive integers"
            problem = "malformed width or height"
            faults.refuse("malformed-entry", location, problem, list(size), expected)
            size = None
        id_of[name] = image_id
        index_of[image_id] = len(images)
        images.append(_Image(image_id, name, size, location, removal))
    if not images:
        raise FaultError("no-images", Location(str(file.source)), "has no images")
    return images, index_of


def _boxes(
    file: CocoFile, index_of: dict[int | str, int], class_of: dict[int, int], faults: Faults
) -> list[RawBox]:
    # a category that was refused may be mended, so its annotations stay
    listed = [category.get("id") for category in file.entries("categories")]
    boxes = []
    for number, entry in enumerate(file.entries("annotations")):
        name = f"annotation {entry.get('id', f'[{number}]')}"
        meant = None
        fault = _fault(entry, index_of, class_of)
        if fault:
            kind, problem, got, expected = fault
            location = file.location("annotations", number, name)
            meant = _ordered_corners(entry["bbox"]) if kind == "box-turned-round" else None
            is_refused = kind == "unknown-class" and entry.get("category_id") in listed
            edit = None if is_refused else Edit(str(file.source), "annotations", number, meant)
            faults.refuse(kind, location, problem, got, expected, edit)
            if meant is None:
                continue
        left, top, width, height = entry["bbox"]
        area = entry.get("area")
        crowd = entry.get("iscrowd", 0) == 1
        box = RawBox(
            image=index_of[entry["image_id"]],
            box_xyxy=meant or (left, top, left + width, top + height),
            class_id=class_of[entry["category_id"]],
            number=number,
            entry=name,
            line=file.line("annotations", number),
            ignore=crowd,
            crowd=crowd,
            area_px=math.nan if area is None else area,
        )
        boxes.append(box)
    if faults.collects:
        _note_repeated_ids(file, faults)
    return boxes


def _note_repeated_ids(file: CocoFile, faults: Faults) -> None:
    """Report annotations of one id, of which other programs may lose all but one."""
    entries = file.entries("annotations")
    numbers = [entry["id"] for entry in entries if is_integer(entry.get("id"))]
    unused = max(numbers, default=0)
    known: set[object] = set()
    for number, entry in enumerate(entries):
        own_id: Any = entry.get("id")
        if not isinstance(own_id, int | str):
            continue
        if own_id in known:
            unused += 1
            edit = Edit(str(file.source), "annotations", number, unused)
            location = file.location("annotations", number, f"annotation {own_id}")
            faults.note("repeated-annotation-id", location, "annotation id occurs twice", edit)
        known.add(own_id)


def _fault(
    entry: dict[str, Any], index_of: dict[int | str, int], class_of: dict[int, int]
) -> tuple[Kind, str, Any, str | None] | None:
    """Return what is wrong with an annotation as (kind, problem, got, expected), or None."""
    image_id = entry.get("image_id")
    if not isinstance(image_id, int | str) or image_id not in index_of:
        problem = "its image_id is not among the images"
        return "annotation-without-image", problem, repr(image_id), None
    category_id = entry.get("category_id")
    if not is_integer(category_id) or category_id not in class_of:
        problem = "its category_id is not among the categories"
        return "unknown-class", problem, repr(category_id), None
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        expected = "[left, top, width, height], four finite numbers"
        return "malformed-entry", "malformed bbox", repr(box), expected
    if entry.get("iscrowd", 0) not in (0, 1):
        return "malformed-entry", "malformed iscrowd", repr(entry["iscrowd"]), "0 or 1"
    area = entry.get("area")
    if area is not None and not (_is_number(area) and area >= 0):
        return "malformed-entry", "malformed area", repr(area), "a finite number >= 0"
    if box[2] < 0 or box[3] < 0:
        problem = "negative width or height"
        return "box-turned-round", problem, repr(box), "[left, top, width, height]"
    return None


def _ordered_corners(bbox: list[float]) -> tuple[float, float, float, float]:
    """Return the edges that a box with a negative side means."""
    left, top, width, height = bbox
    return left + min(width, 0), top + min(height, 0), left + max(width, 0), top + max(height, 0)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -_LARGEST < value < _LARGEST


def find_image_folder(source: Path, root: Path, images: list[_Image], key: str) -> Path:
    """Return the folder that holds the file names of an annotation file.

    Tried in this order: folders named inside the file's own name (`instances_val2017.json`:
    `val2017`), longest first, beside the annotations, in `images`, and below `root`; the annotation
    file's own folder, `images` and the bases themselves; last any other folder there, if only one
    fits.

    Raises UserError where no folder holds the images, or several do.
    """
    base = source.parent.parent if source.parent.name.lower() == "annotations" else source.parent
    bases = list(dict.fromkeys([base, base / "images", root, root / "images"]))
    entries = [path for parent in bases if parent.is_dir() for path in sorted(parent.iterdir())]
    subfolders = [path for path in entries if path.is_dir()]
    named = [folder for folder in subfolders if folder.name in source.stem]
    named.sort(key=lambda folder: -len(folder.name))
    likely = dict.fromkeys([*named, source.parent, base / "images", root / "images", base, root])
    probes = [image.name for image in images[:: max(1, len(images) // _PROBES)]]

    def holds_images(folder: Path) -> bool:
        return any(_image_path(folder, name).is_file() for name in probes)

    for folder in likely:
        if holds_images(folder):
            return folder
    others = [folder for folder in dict.fromkeys(subfolders) if holds_images(folder)]
    if len(others) == 1:
        return others[0]
    expected = "{annotations: FILE, images: DIR}"
    if others:
        problem = f"several folders hold images of {source}"
        raise UserError(key, problem, ", ".join(map(str, others)), expected)
    tried = ", ".join(str(folder) for folder in likely if folder.is_dir())
    problem = f"image is missing: {probes[0]} in {tried}"
    raise FaultError("missing-image", images[0].location, problem, None, expected)

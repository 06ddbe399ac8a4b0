"""COCO JSON: one file per split, images found by their names.

https://cocodataset.org/#format-data; only `images`, `categories` and, of `annotations`, bbox,
category_id, image_id, iscrowd and area are read.
"""

import json
import math
from pathlib import Path
from typing import Any

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.text_files import read_text
from mindyolo_v4.data.readers.class_names import configured_names
from mindyolo_v4.data.readers.files import first_present, spellings
from mindyolo_v4.data.readers.ground_truth import ListedImage, RawBox, build_records
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError, require

_LARGEST = 1e12  # a number beyond is no coordinate, and no area
_PROBES = 5  # images that are looked for in a folder before it is taken for the right one


def read_coco(data: DataConfig, root: Path, key: str, split: Any, check_headers: bool) -> Dataset:
    """Read a COCO annotation file.

    Classes are the file's categories by ascending id, or data.names, which must be the same set.

    Args:
        key: configuration key of the split, for messages.
        split: annotation file relative to `root`, or {annotations: FILE, images: DIR}.

    Raises:
        UserError: names the file, and the image or annotation in it, that is wrong.
    """
    location = split if isinstance(split, dict) else {"annotations": split}
    source = first_present((root,), spellings(location["annotations"]))
    if source is None or not source.is_file():
        place = str(root / location["annotations"])
        raise UserError(key, "annotation file not found", place, "a COCO JSON file")
    content = _load(source)
    annotations = content.get("annotations", [])
    given = configured_names(data, root)
    names, class_of, warnings = _classes(content["categories"], annotations, given, source)
    images, index_of = _images(content["images"], source)
    if location.get("images") is None:
        folder = find_image_folder(source, root, images, key)
    else:
        folder = root / location["images"]
        require(folder.is_dir(), f"{key}.images", "folder not found", str(folder))
    listed = [
        ListedImage(
            _image_path(folder, name), image_id, str(source), f"{source}: image {image_id}", size
        )
        for image_id, name, size in images
    ]
    boxes = _boxes(annotations, index_of, class_of, source)
    records, more_warnings = build_records(
        listed, boxes, check_headers, data.max_megapixels, have_ids=True
    )
    first_ids = {class_id: category_id for category_id, class_id in reversed(class_of.items())}
    category_ids = tuple(first_ids[class_id] for class_id in range(len(names)))
    return Dataset(records, names, category_ids, str(source), (*warnings, *more_warnings))


def _image_path(folder: Path, name: str) -> Path:
    """Return where an image lies; most names need no look at the disk."""
    names = spellings(name)
    path = first_present((folder,), names) if len(names) > 1 else None
    return path or folder / name


def _load(source: Path) -> dict[str, Any]:
    try:
        # polygons are most of a COCO file, and nothing here needs them
        content = json.loads(read_text(source), object_hook=_without_segmentation)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}:{error.lineno}", f"not valid JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(source, "not valid JSON: nested too deeply") from None
    except ValueError as error:  # of numbers of more than 4300 digits
        raise UserError(source, f"not valid JSON: {error}") from None
    if not isinstance(content, dict):
        expected = "an object with images and categories"
        raise UserError(source, "not a COCO file", type(content).__name__, expected)
    for key in ("images", "categories"):
        require(key in content, source, f"not a COCO file: no {key!r}")
    for key in ("images", "categories", "annotations"):
        entries = content.get(key, [])
        are_objects = isinstance(entries, list) and all(isinstance(one, dict) for one in entries)
        require(are_objects, source, f"{key!r} is not a list of objects")
    return content


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _classes(
    categories: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    given: tuple[str, ...] | None,
    source: Path,
) -> tuple[tuple[str, ...], dict[int, int], list[str]]:
    """Return the class names, the class of every category id, and warnings.

    Exports of labelling tools have a category without annotations that is the supercategory of the
    others, or one class under two ids.
    """
    name_of: dict[int, str] = {}
    for category in categories:
        category_id: Any = category.get("id")
        name = category.get("name")
        if not _is_integer(category_id) or not isinstance(name, str):
            raise UserError(source, "malformed category", category, "an integer id and a name")
        if category_id in name_of:
            raise UserError(source, f"category {category_id}: its id occurs twice", name)
        name_of[category_id] = name

    warnings = []
    for category_id in _mere_parents(categories, annotations):
        name = name_of[category_id]
        if name not in (given or ()):
            del name_of[category_id]
            problem = "is only the supercategory of others, no class"
            warnings.append(f"{source}: category {category_id} {name!r} {problem}")
    require(bool(name_of), source, "has no categories that are classes")
    ids = sorted(name_of)
    names = given or tuple(dict.fromkeys(name_of[category_id] for category_id in ids))
    if set(names) != set(name_of.values()):
        absent = sorted(set(names) - set(name_of.values()))
        unnamed = sorted(set(name_of.values()) - set(names))
        raise _names_differ(source, absent, unnamed)
    if len(ids) > len(names):
        warnings.append(f"{source}: {len(ids)} categories have {len(names)} names, each one class")
    class_of = {name: number for number, name in enumerate(names)}
    return names, {category_id: class_of[name_of[category_id]] for category_id in ids}, warnings


def _mere_parents(categories: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> list[int]:
    """Return the ids without annotations whose name is the supercategory of other categories.

    A category that is its own supercategory, like COCO's person, is a class.
    """
    parents = {str(category.get("supercategory")) for category in categories}
    suspects = [
        category["id"]
        for category in categories
        if category["name"] in parents and category.get("supercategory") != category["name"]
    ]
    if not suspects:
        return []
    annotated = {str(entry.get("category_id")) for entry in annotations}
    return [category_id for category_id in suspects if str(category_id) not in annotated]


def _names_differ(source: Path, absent: list[str], unnamed: list[str]) -> UserError:
    """Return the error of class names that are not the categories, a few of each kind."""
    parts = []
    for names, problem in ((absent, "not in the file"), (unnamed, "in the file only")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{', '.join(names[:3])}{more} {problem}")
    problem = f"differs from the categories of {source}"
    return UserError("data.names", problem, "; ".join(parts))


_Image = tuple[int | str, str, tuple[int, int] | None]  # id, file name, stated size


def _images(
    entries: list[dict[str, Any]], source: Path
) -> tuple[list[_Image], dict[int | str, int]]:
    """Return the images and the position of each image id in their list."""
    images: list[_Image] = []
    index_of: dict[int | str, int] = {}
    id_of: dict[str, int | str] = {}
    for number, entry in enumerate(entries):
        image_id: Any = entry.get("id")
        name = entry.get("file_name")
        if not _is_integer(image_id) and not isinstance(image_id, str):
            problem = "id is not an integer or a string"
            raise UserError(f"{source}: images[{number}]", problem, image_id)
        where = f"{source}: image {image_id}"
        if not isinstance(name, str) or not name:
            raise UserError(where, "has no file_name")
        if image_id in index_of:
            raise UserError(where, "image id occurs twice", name)
        if name in id_of:
            raise UserError(where, f"file_name occurs twice, first in image {id_of[name]}", name)
        size: Any = (entry.get("width"), entry.get("height"))
        if size == (None, None):
            size = None
        elif all(_is_number(side) and round(side) > 0 for side in size):
            size = (round(size[0]), round(size[1]))
        else:
            raise UserError(where, "malformed width or height", list(size), "two positive integers")
        id_of[name] = image_id
        index_of[image_id] = number
        images.append((image_id, name, size))
    require(bool(images), source, "has no images")
    return images, index_of


def _boxes(
    annotations: list[dict[str, Any]],
    index_of: dict[int | str, int],
    class_of: dict[int, int],
    source: Path,
) -> list[RawBox]:
    boxes = []
    for number, entry in enumerate(annotations):
        where = f": annotation {entry.get('id', f'[{number}]')}"
        fault = _fault(entry, index_of, class_of)
        if fault:
            raise UserError(f"{source}{where}", *fault)
        left, top, width, height = entry["bbox"]
        area = entry.get("area")
        crowd = entry.get("iscrowd", 0) == 1
        box = RawBox(
            image=index_of[entry["image_id"]],
            box_xyxy=(left, top, left + width, top + height),
            class_id=class_of[entry["category_id"]],
            entry=where,
            ignore=crowd,
            crowd=crowd,
            area_px=math.nan if area is None else area,
        )
        boxes.append(box)
    return boxes


def _fault(
    entry: dict[str, Any], index_of: dict[int | str, int], class_of: dict[int, int]
) -> tuple[str, Any, str | None] | None:
    """Return what is wrong with an annotation as (problem, got, expected), or None."""
    image_id = entry.get("image_id")
    if not isinstance(image_id, int | str) or image_id not in index_of:
        return "its image_id is not among the images", repr(image_id), None
    category_id = entry.get("category_id")
    if not _is_integer(category_id) or category_id not in class_of:
        return "its category_id is not among the categories", repr(category_id), None
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return "malformed bbox", repr(box), "[left, top, width, height], four finite numbers"
    if box[2] < 0 or box[3] < 0:
        return "negative width or height", repr(box), "[left, top, width, height]"
    if entry.get("iscrowd", 0) not in (0, 1):
        return "malformed iscrowd", repr(entry["iscrowd"]), "0 or 1"
    area = entry.get("area")
    if area is not None and not (_is_number(area) and area >= 0):
        return "malformed area", repr(area), "a finite number >= 0"
    return None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -_LARGEST < value < _LARGEST


def find_image_folder(source: Path, root: Path, images: list[_Image], key: str) -> Path:
    """Return the folder that holds the file names of an annotation file.

    Tried in this order: folders named inside the file's own name (`instances_val2017.json`:
    `val2017`), longest first, beside the annotations, in `images`, and below `root`; the annotation
    file's own folder, `images` and the bases themselves; last any other folder there, if only one
    fits.

    Raises:
        UserError: no folder holds the images, or several do.
    """
    base = source.parent.parent if source.parent.name.lower() == "annotations" else source.parent
    bases = list(dict.fromkeys([base, base / "images", root, root / "images"]))
    entries = [path for parent in bases if parent.is_dir() for path in sorted(parent.iterdir())]
    subfolders = [path for path in entries if path.is_dir()]
    named = [folder for folder in subfolders if folder.name in source.stem]
    named.sort(key=lambda folder: -len(folder.name))
    likely = dict.fromkeys([*named, source.parent, base / "images", root / "images", base, root])
    probes = [name for _, name, _ in images[:: max(1, len(images) // _PROBES)]]

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
    raise UserError(f"{source}: image {images[0][0]}", problem, None, expected)

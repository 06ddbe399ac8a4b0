"""Pascal VOC: `ImageSets/Main/<list>.txt`, `Annotations/<name>.xml`, `JPEGImages/<name>.*`.

A folder in place of a list stands for all annotations in it, whose images lie beside them or in
JPEGImages. Coordinates count as the edges of the box. (VOC's own are 1-based pixel indices, both
inclusive, so the strict edges would be xmin - 1 and ymin - 1; the tools that write this format
today mean edges.)
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names
from mindyolo_v4.data.readers.faults import Edit, FaultError, Faults, Place, annotation_lines
from mindyolo_v4.data.readers.files import (
    FileFinder,
    files_below,
    files_of,
    first_present,
    spellings,
)
from mindyolo_v4.data.readers.ground_truth import ListedImage, RawBox, build_records
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.readers.xml_lines import LINE, parse_xml
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """One <object>: its class name, edges in pixels, and line in the file."""

    name: str
    box_xyxy_px: tuple[float, float, float, float]
    difficult: bool
    line: int
    number: int  # among the objects of the file, from 0


@dataclass(frozen=True)
class VocAnnotation:
    """One annotation file."""

    stated_size: tuple[int, int] | None  # width and height, pixels; None when absent or 0
    objects: tuple[VocObject, ...]


@dataclass(frozen=True)
class _Entry:
    """One image of a split and where its annotation lies."""

    image: Path
    label: Path | None
    where: Place  # names it in messages


def read_voc(
    data: DataConfig, root: Path, key: str, split: Any, check_headers: bool, faults: Faults
) -> Dataset:
    """Read the images of an `ImageSets/Main` list; `difficult` objects become ignored boxes.

    Without data.names the classes are the sorted names in the annotations of all splits that the
    configuration has, so that training and validation agree.

    Args:
        key: configuration key of the split, for messages.
        split: name of the list, or a list file or a folder relative to `root`.

    Raises:
        UserError: names the list or XML file and the line that is wrong.
    """
    if not isinstance(split, str):
        expected = "the name of a list in ImageSets/Main"
        raise UserError(key, "not a split of data.format voc", split, expected)
    source = _source(root, split)
    if source is None:
        listing = str(root / "ImageSets" / "Main" / f"{split}.txt")
        expected = f"that list, or {key} . for all annotations below {root}"
        raise UserError(key, "list not found", listing, expected)
    entries = _entries(source, root, faults)
    if not entries:
        raise FaultError("no-images", Place(str(source)), "lists no images")
    _warn_of_unlabelled(entries, source, root, faults)
    annotations = [_annotation(entry.label, faults) for entry in entries]
    names = configured_names(data, root)
    names = names or _names_of_all_splits(data, root, source, annotations, faults)
    class_of = {name: class_id for class_id, name in enumerate(names)}
    boxes = []
    for index, annotation in enumerate(annotations):
        for item in annotation.objects:
            class_id = class_of.get(item.name)
            if class_id is None:
                label = str(entries[index].label)
                problem = "class is not among data.names"
                place = Place(label, item.line)
                edit = Edit(label, "object", item.number, None)
                faults.refuse("unknown-class", place, problem, item.name, ", ".join(names), edit)
                continue
            box = RawBox(
                image=index,
                box_xyxy=item.box_xyxy_px,
                class_id=class_id,
                number=item.number,
                line=item.line,
                ignore=item.difficult,
            )
            boxes.append(box)
    listed = [
        ListedImage(
            path=entry.image,
            image_id=number,
            label_path=str(entry.label or ""),
            entry=entry.where,
            stated_size=annotation.stated_size,
            removal=Edit(entry.where.file, "line", entry.where.line, None)
            if entry.where.line
            else None,
        )
        for number, (entry, annotation) in enumerate(zip(entries, annotations, strict=True), 1)
    ]
    records = build_records(listed, boxes, check_headers, faults, data.max_megapixels)
    category_ids = tuple(range(1, len(names) + 1))
    return Dataset(records, names, category_ids, str(source), tuple(faults.warnings))


def _annotation(label: Path | None, faults: Faults) -> VocAnnotation:
    """Return what is right of an annotation."""
    if label is not None:
        with faults.go_on():
            return read_annotation(label, faults)
    return VocAnnotation(None, ())


def _warn_of_unlabelled(entries: list[_Entry], source: Path, root: Path, faults: Faults) -> None:
    absent = [entry for entry in entries if entry.label is None]
    if len(absent) == len(entries):
        expected = str(root / "Annotations" / f"{absent[0].image.stem}.xml")
        problem = "none of its images has an annotation file"
        raise FaultError("no-annotations", Place(str(source)), problem, None, expected)
    for entry in absent:
        problem = "has no XML file, and counts as an image without objects"
        faults.note("info-image-without-annotation", Place(str(entry.image)), problem)
    if absent:
        problem = "have no XML file and count as images without objects"
        count = f"{len(absent)} of {len(entries)} images"
        text = f"{absent[0].where}: {count}, such as {absent[0].image}, {problem}"
        faults.warnings.append(text)


def _source(root: Path, split: str) -> Path | None:
    """Return the list, or the folder, that a split names."""
    lists = root / "ImageSets" / "Main"
    candidates = (lists / f"{split}.txt", lists / split)
    listed = next((path for path in candidates if path.is_file()), None)
    return listed or first_present((root,), spellings(split))


def _entries(source: Path, root: Path, faults: Faults) -> list[_Entry]:
    """Return the images of a list with their annotations, or the annotations of a folder."""
    finder = FileFinder()
    entries = []
    if source.is_dir():
        for name in sorted(files_below(source, (".xml",))):
            label = source / name
            where = Place(str(label))
            image = _image_file(label.with_suffix("").name, _image_folders(label, root), finder)
            if image is None:
                expected = f"an image {label.stem} beside it or in JPEGImages"
                problem = "its image is missing"
                faults.refuse("annotation-without-image", where, problem, None, expected)
                continue
            entries.append(_Entry(image, label, where))
        if not entries:
            expected = "annotations, or a list of images"
            raise FaultError("no-images", Place(str(source)), "holds no XML file", None, expected)
        return entries
    for number, line in enumerate(annotation_lines(source), 1):
        name = line.strip()
        if not name:
            continue
        where = Place(str(source), number)
        found = (_image_file(text, [root / "JPEGImages"], finder) for text in spellings(name))
        image = next((path for path in found if path is not None), None)
        if image is None:
            got = str(root / "JPEGImages" / name)
            expected = f"that name with one of {' '.join(IMAGE_SUFFIXES)}"
            removal = Edit(where.file, "line", number, None)
            faults.refuse("missing-image", where, "image is missing", got, expected, removal)
            continue
        entries.append(_Entry(image, _label_file(name, root, finder), where))
    if faults.collects:
        _note_labels_without_image(root, finder, faults)
    return entries


def _note_labels_without_image(root: Path, finder: FileFinder, faults: Faults) -> None:
    folder = root / "Annotations"
    for name in sorted(files_of(folder, (".xml",))) if folder.is_dir() else ():
        stem = name[: -len(".xml")]
        if _image_file(stem, [root / "JPEGImages"], finder) is None:
            problem = f"no image of this name in {root / 'JPEGImages'}"
            faults.note("annotation-without-image", Place(str(folder / name)), problem)


def _label_file(name: str, root: Path, finder: FileFinder) -> Path | None:
    """Return the annotation of a name in a list, which may have the suffix of the image."""
    for text in spellings(name):
        stem = Path(text).with_suffix("") if text.lower().endswith(IMAGE_SUFFIXES) else Path(text)
        label = finder.find(root / "Annotations" / f"{stem}.xml")
        if label is not None:
            return label
    return None


def _image_folders(label: Path, root: Path) -> list[Path]:
    """Return where the image of an annotation may lie, if no list names it."""
    beside = label.parent
    parts = ["JPEGImages" if part == "Annotations" else part for part in beside.parts]
    return [beside, Path(*parts), root / "JPEGImages", root / "images"]


def _image_file(name: str, folders: list[Path], finder: FileFinder) -> Path | None:
    """Return the image of a name with or without suffix."""
    suffixes = ("", *IMAGE_SUFFIXES) if name.lower().endswith(IMAGE_SUFFIXES) else IMAGE_SUFFIXES
    paths = (folder / f"{name}{suffix}" for folder in folders for suffix in suffixes)
    return next((found for path in paths if (found := finder.find(path))), None)


def _names_of_all_splits(
    data: DataConfig, root: Path, source: Path, annotations: list[VocAnnotation], faults: Faults
) -> tuple[str, ...]:
    names = {item.name for annotation in annotations for item in annotation.objects}
    splits = [split for split in (data.train, data.val, data.test) if isinstance(split, str)]
    others = {other for split in splits if (other := _source(root, split)) is not None} - {source}
    finder = FileFinder()
    labels: set[Path] = set()
    for other in others:
        if other.is_dir():
            labels |= {other / name for name in files_below(other, (".xml",))}
        else:
            lines = filter(None, (line.strip() for line in annotation_lines(other)))
            found = (_label_file(name, root, finder) for name in lines)
            labels |= {label for label in found if label is not None}
    of_others = Faults(faults.collects)  # whoever reads the other splits reports their faults
    for label in labels:
        names.update(item.name for item in _annotation(label, of_others).objects)
    if not names:
        problem = "its annotations hold no objects, and data.names is missing"
        raise FaultError("no-boxes", Place(str(source)), problem)
    return tuple(sorted(names))


def read_annotation(path: Path, faults: Faults) -> VocAnnotation:
    """Read one XML file.

    Raises:
        FaultError: names the file and line of what is not XML, missing, not a number, or reversed.
    """
    tree = parse_xml(path)
    objects = []
    for number, element in enumerate(tree.findall("object")):
        with faults.go_on(Edit(str(path), "object", number, _ordered_corners(element))):
            objects.append(_object(path, element, number))
    sides = [_number(path, tree, f"size/{side}", required=False) for side in ("width", "height")]
    return VocAnnotation((int(sides[0]), int(sides[1])) if min(sides) > 0 else None, tuple(objects))


def _object(path: Path, element: Element, number: int) -> VocObject:
    line = int(element.get(LINE, "0"))
    name = (element.findtext("name") or "").strip()
    if not name:
        raise FaultError("malformed-entry", Place(str(path), line), "object has no name")
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        where = _place_of(path, element, "difficult")
        raise FaultError("malformed-entry", where, "malformed difficult", difficult, "0 or 1")
    return VocObject(name, _box(path, element), difficult == "1", line, number)


def _box(path: Path, element: Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (_number(path, element, f"bndbox/{side}") for side in SIDES)
    if right < left or bottom < top:
        where = _place_of(path, element, "bndbox")
        got = [left, top, right, bottom]
        expected = "xmin <= xmax and ymin <= ymax"
        raise FaultError("box-turned-round", where, "box is turned round", got, expected)
    return left, top, right, bottom


def _ordered_corners(element: Element) -> tuple[float, ...] | None:
    """Return what a box that is turned round means; None where that is not its fault."""
    try:
        left, top, right, bottom = (
            float(element.findtext(f"bndbox/{side}") or "") for side in SIDES
        )
    except ValueError:
        return None
    if right >= left and bottom >= top:
        return None
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _number(path: Path, element: Element, tag: str, required: bool = True) -> float:
    text = element.findtext(tag)
    if text is None and not required:
        return 0.0
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        where = _place_of(path, element, tag)
        raise FaultError(
            "malformed-entry", where, f"malformed {tag}", repr(text), "a finite number"
        )
    return value


def _place_of(path: Path, element: Element, tag: str) -> Place:
    """Return file and line of an element's child, or of the element where it has no such child."""
    child = element.find(tag)
    line = (element if child is None else child).get(LINE, "0")
    return Place(str(path), int(line))

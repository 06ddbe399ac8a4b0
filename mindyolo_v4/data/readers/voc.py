"""Pascal VOC: `ImageSets/Main/<list>.txt`, `Annotations/<name>.xml`, `JPEGImages/<name>.*`.

Coordinates count as the edges of the box. (VOC's own are 1-based pixel indices, both inclusive, so
the strict edges would be xmin - 1 and ymin - 1; the tools that write this format today mean edges.)
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names
from mindyolo_v4.data.readers.files import read_lines
from mindyolo_v4.data.readers.ground_truth import ListedImage, RawBox, build_records
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

_LINE = "{line}"  # attribute that carries an element's line; no XML name can hold braces
_SUFFIXES = tuple(dict.fromkeys(s for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())))


@dataclass(frozen=True)
class VocObject:
    """One <object>: its class name, edges in pixels, and line in the file."""

    name: str
    box_xyxy_px: tuple[float, float, float, float]
    difficult: bool
    line: int


@dataclass(frozen=True)
class VocAnnotation:
    """One annotation file."""

    stated_size: tuple[int, int] | None  # width and height, pixels; None when absent or 0
    objects: tuple[VocObject, ...]


def read_voc(data: DataConfig, root: Path, key: str, split: Any, check_headers: bool) -> Dataset:
    """Read the images of an `ImageSets/Main` list; `difficult` objects become ignored boxes.

    Without data.names the classes are the sorted names in the annotations of all splits that the
    configuration has, so that training and validation agree.

    Args:
        key: configuration key of the split, for messages.
        split: name of the list, or a list file relative to `root`.

    Raises:
        UserError: names the list or XML file and the line that is wrong.
    """
    if not isinstance(split, str):
        expected = "the name of a list in ImageSets/Main"
        raise UserError(key, "not a split of data.format voc", split, expected)
    source = _list_file(root, split)
    if source is None:
        raise UserError(key, "list not found", str(root / "ImageSets" / "Main" / f"{split}.txt"))
    listed, annotations, warnings = _read_list(source, root)
    names = configured_names(data, root) or _names_of_all_splits(data, root, source, annotations)
    class_of = {name: class_id for class_id, name in enumerate(names)}
    boxes = []
    for index, annotation in enumerate(annotations):
        for item in annotation.objects:
            if item.name not in class_of:
                where = f"{listed[index].label_path}:{item.line}"
                problem = "class is not among data.names"
                raise UserError(where, problem, item.name, ", ".join(names))
            class_id = class_of[item.name]
            boxes.append(RawBox(index, item.box_xyxy_px, class_id, f":{item.line}", item.difficult))
    records, more_warnings = build_records(listed, boxes, check_headers)
    category_ids = tuple(range(1, len(names) + 1))
    return Dataset(records, names, category_ids, str(source), (*warnings, *more_warnings))


def _list_file(root: Path, split: str) -> Path | None:
    folder = root / "ImageSets" / "Main"
    candidates = (folder / f"{split}.txt", folder / split, root / split)
    return next((path for path in candidates if path.is_file()), None)


def _read_list(
    source: Path, root: Path
) -> tuple[list[ListedImage], list[VocAnnotation], list[str]]:
    listed: list[ListedImage] = []
    annotations: list[VocAnnotation] = []
    warnings: list[str] = []
    unlabelled = 0
    for number, line in enumerate(read_lines(source), 1):
        name = line.strip()
        if not name:
            continue
        where = f"{source}:{number}"
        image = _image_file(root, name, where)
        label = _label_file(root, name)
        if label.is_file():
            annotation = read_annotation(label)
        else:
            annotation = VocAnnotation(None, ())
            unlabelled += 1
            warnings.append(
                f"{where}: no {label.name}, {image.name} counts as an image without objects"
            )
        image_id = len(listed) + 1
        listed.append(ListedImage(image, image_id, str(label), where, annotation.stated_size))
        annotations.append(annotation)
    if not listed:
        raise UserError(source, "lists no images")
    if unlabelled == len(listed):
        raise UserError(source, "none of its images has an annotation file", listed[0].label_path)
    return listed, annotations, warnings


def _image_file(root: Path, name: str, where: str) -> Path:
    stem = root / "JPEGImages" / name
    candidates = [stem, *(stem.with_name(stem.name + suffix) for suffix in _SUFFIXES)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        expected = f"that name with one of {' '.join(IMAGE_SUFFIXES)}"
        raise UserError(where, "image is missing", str(stem), expected)
    return path


def _label_file(root: Path, name: str) -> Path:
    stem = Path(name).with_suffix("").as_posix() if name.lower().endswith(IMAGE_SUFFIXES) else name
    return root / "Annotations" / f"{stem}.xml"


def _names_of_all_splits(
    data: DataConfig, root: Path, source: Path, annotations: list[VocAnnotation]
) -> tuple[str, ...]:
    names = {item.name for annotation in annotations for item in annotation.objects}
    splits = [split for split in (data.train, data.val, data.test) if isinstance(split, str)]
    for other in {_list_file(root, split) for split in splits}:
        if other is None or other == source:
            continue
        for line in read_lines(other):
            label = _label_file(root, line.strip())
            if line.strip() and label.is_file():
                names.update(item.name for item in read_annotation(label).objects)
    if not names:
        raise UserError("data.names", f"missing, and the annotations of {source} hold no objects")
    return tuple(sorted(names))


def read_annotation(path: Path) -> VocAnnotation:
    """Read one XML file.

    Raises:
        UserError: names the file and line of what is not XML, missing, not a number, or reversed.
    """
    tree = _parse(path)
    objects = []
    for element in tree.findall("object"):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise UserError(f"{path}:{element.get(_LINE)}", "object has no name")
        difficult = (element.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            where = _line_of(path, element, "difficult")
            raise UserError(where, "malformed difficult", difficult, "0 or 1")
        line = int(element.get(_LINE, "0"))
        objects.append(VocObject(name, _box(path, element), difficult == "1", line))
    sides = [_number(path, tree, f"size/{side}", required=False) for side in ("width", "height")]
    return VocAnnotation((int(sides[0]), int(sides[1])) if min(sides) > 0 else None, tuple(objects))


def _box(path: Path, element: Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (
        _number(path, element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if right < left or bottom < top:
        where = _line_of(path, element, "bndbox")
        expected = "xmin <= xmax and ymin <= ymax"
        raise UserError(where, "box is turned round", [left, top, right, bottom], expected)
    return left, top, right, bottom


def _number(path: Path, element: Element, tag: str, required: bool = True) -> float:
    text = element.findtext(tag)
    if text is None and not required:
        return 0.0
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        where = _line_of(path, element, tag)
        raise UserError(where, f"malformed {tag}", repr(text), "a finite number")
    return value


def _line_of(path: Path, element: Element, tag: str) -> str:
    """Return file and line of an element's child, or of the element where it has no such child."""
    child = element.find(tag)
    return f"{path}:{(element if child is None else child).get(_LINE)}"


def _parse(path: Path) -> Element:
    """Parse a file into elements that carry their line, which ElementTree's parser drops."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: builder.start(
        tag, {**attributes, _LINE: str(parser.CurrentLineNumber)}
    )
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        problem = f"not valid XML: {expat.ErrorString(error.code)}"
        raise UserError(f"{path}:{error.lineno}", problem) from None
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from None
    return builder.close()

"""Pascal VOC: `ImageSets/Main/<list>.txt`, `Annotations/<name>.xml`, `JPEGImages/<name>.*`.

A folder in place of a list stands for all annotations in it, whose images lie beside them or in
JPEGImages. Coordinates count as the edges of the box. (VOC's own are 1-based pixel indices, both
inclusive, so the strict edges would be xmin - 1 and ymin - 1; the tools that write this format
today mean edges.)
"""

import codecs
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.text_files import read_lines
from mindyolo_v4.data.readers.class_names import configured_names
from mindyolo_v4.data.readers.files import FileFinder, files_below, first_present, spellings
from mindyolo_v4.data.readers.ground_truth import ListedImage, RawBox, build_records
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

_LINE = "{line}"  # attribute that carries an element's line; no XML name can hold braces
_ENCODING = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']")
_KNOWN_TO_EXPAT = ("utf-8", "utf-16", "iso8859-1", "ascii")
_NO_FILE_ENCODINGS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")
# Windows declares an encoding and writes its own superset of it
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


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


@dataclass(frozen=True)
class _Entry:
    """One image of a split and where its annotation lies."""

    image: Path
    label: Path | None
    where: str  # names it in messages


def read_voc(data: DataConfig, root: Path, key: str, split: Any, check_headers: bool) -> Dataset:
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
        place = str(root / "ImageSets" / "Main" / f"{split}.txt")
        expected = f"that list, or {key} . for all annotations below {root}"
        raise UserError(key, "list not found", place, expected)
    entries = _entries(source, root)
    if not entries:
        raise UserError(source, "lists no images")
    unlabelled_warnings = _warn_of_unlabelled(entries, source, root)
    labels = [entry.label for entry in entries]
    annotations = [
        VocAnnotation(None, ()) if label is None else read_annotation(label) for label in labels
    ]
    names = configured_names(data, root) or _names_of_all_splits(data, root, source, annotations)
    class_of = {name: class_id for class_id, name in enumerate(names)}
    boxes = []
    for index, annotation in enumerate(annotations):
        for item in annotation.objects:
            if item.name not in class_of:
                where = f"{labels[index]}:{item.line}"
                problem = "class is not among data.names"
                raise UserError(where, problem, item.name, ", ".join(names))
            class_id = class_of[item.name]
            boxes.append(RawBox(index, item.box_xyxy_px, class_id, f":{item.line}", item.difficult))
    listed = [
        ListedImage(
            entry.image, number, str(entry.label or ""), entry.where, annotation.stated_size
        )
        for number, (entry, annotation) in enumerate(zip(entries, annotations, strict=True), 1)
    ]
    records, warnings = build_records(listed, boxes, check_headers, data.max_megapixels)
    category_ids = tuple(range(1, len(names) + 1))
    warnings = (*unlabelled_warnings, *warnings)
    return Dataset(records, names, category_ids, str(source), warnings)


def _warn_of_unlabelled(entries: list[_Entry], source: Path, root: Path) -> list[str]:
    absent = [entry for entry in entries if entry.label is None]
    if len(absent) == len(entries):
        expected = str(root / "Annotations" / f"{absent[0].image.stem}.xml")
        raise UserError(source, "none of its images has an annotation file", None, expected)
    problem = "have no XML file and count as images without objects"
    count = f"{len(absent)} of {len(entries)} images"
    return [f"{entry.where}: {count}, such as {entry.image}, {problem}" for entry in absent[:1]]


def _source(root: Path, split: str) -> Path | None:
    """Return the list, or the folder, that a split names."""
    lists = root / "ImageSets" / "Main"
    candidates = (lists / f"{split}.txt", lists / split)
    listed = next((path for path in candidates if path.is_file()), None)
    return listed or first_present((root,), spellings(split))


def _entries(source: Path, root: Path) -> list[_Entry]:
    """Return the images of a list with their annotations, or the annotations of a folder."""
    finder = FileFinder()
    entries = []
    if source.is_dir():
        for name in sorted(files_below(source, (".xml",))):
            label = source / name
            image = _image_file(label.with_suffix("").name, _image_folders(label, root), finder)
            if image is None:
                expected = f"an image {label.stem} beside it or in JPEGImages"
                raise UserError(label, "its image is missing", None, expected)
            entries.append(_Entry(image, label, str(label)))
        if not entries:
            raise UserError(source, "holds no XML file", None, "annotations, or a list of images")
        return entries
    for number, line in enumerate(read_lines(source), 1):
        name = line.strip()
        if not name:
            continue
        where = f"{source}:{number}"
        found = (_image_file(text, [root / "JPEGImages"], finder) for text in spellings(name))
        image = next((path for path in found if path is not None), None)
        if image is None:
            expected = f"that name with one of {' '.join(IMAGE_SUFFIXES)}"
            raise UserError(where, "image is missing", str(root / "JPEGImages" / name), expected)
        entries.append(_Entry(image, _label_file(name, root, finder), where))
    return entries


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
    data: DataConfig, root: Path, source: Path, annotations: list[VocAnnotation]
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
            lines = filter(None, (line.strip() for line in read_lines(other)))
            found = (_label_file(name, root, finder) for name in lines)
            labels |= {label for label in found if label is not None}
    for label in labels:
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
    try:
        content, encoding = _decode(path.read_bytes(), path)
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from None
    builder = TreeBuilder()
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: builder.start(
        tag, {**attributes, _LINE: str(parser.CurrentLineNumber)}
    )
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        problem = f"not valid XML: {expat.ErrorString(error.code)}"
        raise UserError(f"{path}:{error.lineno}", problem) from None
    return builder.close()


def _decode(content: bytes, path: Path) -> tuple[bytes, str | None]:
    """Return XML in UTF-8 and that name, or as it is and None where the parser knows its encoding.

    The parser knows few encodings; Python knows those of all labelling tools.
    """
    declared = _ENCODING.match(content.removeprefix(codecs.BOM_UTF8))
    if declared is None:
        return content, None
    name = declared[1].decode()
    try:
        codec = codecs.lookup(name).name
        if codec in _NO_FILE_ENCODINGS:
            raise LookupError("no encoding of files")
        if codec in _KNOWN_TO_EXPAT:
            return content, codec if codec == "utf-8" else None
        try:
            return content.decode(name).encode(), "utf-8"
        except UnicodeDecodeError:
            return content.decode(_SUPERSETS[codec]).encode(), "utf-8"
    except (LookupError, ValueError) as error:
        problem = f"cannot be read in the encoding that it declares: {error}"
        raise UserError(path, problem, name) from None

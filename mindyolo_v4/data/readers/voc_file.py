"""One XML file of Pascal VOC: its objects, with their lines."""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from mindyolo_v4.data.readers.faults import Edit, FaultError, Faults, Location
from mindyolo_v4.data.readers.xml_lines import LINE, parse_xml

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


def read_annotation(path: Path, faults: Faults) -> VocAnnotation:
    """Read one XML file. Raises FaultError at what is not XML, missing, no number, or reversed."""
    tree = parse_xml(path)
    objects = []
    for number, element in enumerate(tree.findall("object")):
        with faults.go_on(Edit(str(path), "object", number, None)):
            objects.append(_object(path, element, number, faults))
    sides = [_number(path, tree, f"size/{side}", required=False) for side in ("width", "height")]
    return VocAnnotation((int(sides[0]), int(sides[1])) if min(sides) > 0 else None, tuple(objects))


def _object(path: Path, element: Element, number: int, faults: Faults) -> VocObject:
    line = int(element.get(LINE, "0"))
    name = (element.findtext("name") or "").strip()
    if not name:
        raise FaultError("malformed-entry", Location(str(path), line), "object has no name")
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        where = _place_of(path, element, "difficult")
        raise FaultError("malformed-entry", where, "malformed difficult", difficult, "0 or 1")
    box_xyxy_px = _box(path, element, number, faults)
    return VocObject(name, box_xyxy_px, difficult == "1", line, number)


def _box(
    path: Path, element: Element, number: int, faults: Faults
) -> tuple[float, float, float, float]:
    """Return the edges of an object; where faults are collected, those that it means."""
    left, top, right, bottom = (_number(path, element, f"bndbox/{side}") for side in SIDES)
    if right < left or bottom < top:
        where = _place_of(path, element, "bndbox")
        got = [left, top, right, bottom]
        expected = "xmin <= xmax and ymin <= ymax"
        meant = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
        edit = Edit(str(path), "object", number, meant)
        faults.refuse("box-turned-round", where, "box is turned round", got, expected, edit)
        return meant
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
        where = _place_of(path, element, tag)
        raise FaultError(
            "malformed-entry", where, f"malformed {tag}", repr(text), "a finite number"
        )
    return value


def _place_of(path: Path, element: Element, tag: str) -> Location:
    """Return file and line of an element's child, or of the element where it has no such child."""
    child = element.find(tag)
    line = (element if child is None else child).get(LINE, "0")
    return Location(str(path), int(line))

"""A COCO file as it stands on the disk: its lists, and the lines of their entries."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindyolo_v4.data.readers.faults import FaultError, Location, annotation_text

_SPACE = re.compile(r"[\s,:]*")


@dataclass(frozen=True)
class CocoFile:
    """A COCO file, and where its entries stand, if that was asked for."""

    source: Path
    content: dict[str, Any]
    lines: dict[str, list[int]]

    def entries(self, part: str) -> list[dict[str, Any]]:
        """Return a list of the file: "images", "categories" or "annotations"."""
        return self.content.get(part, [])

    def line(self, part: str, number: int) -> int:
        """Return the line of an entry, 0 where it was not asked for."""
        return self.lines[part][number] if part in self.lines else 0

    def location(self, part: str, number: int, entry: str = "") -> Location:
        """Return what names an entry."""
        return Location(str(self.source), self.line(part, number), entry or f"{part}[{number}]")


def load_coco(source: Path, with_lines: bool) -> CocoFile:
    """Read a COCO file without its polygons. Raises FaultError."""
    text = annotation_text(source)
    location = Location(str(source))
    try:
        # polygons are most of a COCO file, and no reader needs them
        content = json.loads(text, object_hook=_without_segmentation)
    except json.JSONDecodeError as error:
        problem = f"not valid JSON: {error.msg}"
        raise FaultError("malformed-file", Location(str(source), error.lineno), problem) from None
    except RecursionError:
        problem = "not valid JSON: nested too deeply"
        raise FaultError("malformed-file", location, problem) from None
    except ValueError as error:  # of numbers of more than 4300 digits
        raise FaultError("malformed-file", location, f"not valid JSON: {error}") from None
    if not isinstance(content, dict):
        got = type(content).__name__
        expected = "an object with images and categories"
        raise FaultError("malformed-file", location, "not a COCO file", got, expected)
    for key in ("images", "categories"):
        if key not in content:
            raise FaultError("malformed-file", location, f"not a COCO file: no {key!r}")
    for key in ("images", "categories", "annotations"):
        entries = content.get(key, [])
        are_objects = isinstance(entries, list) and all(isinstance(one, dict) for one in entries)
        if not are_objects:
            raise FaultError("malformed-file", location, f"{key!r} is not a list of objects")
    return CocoFile(source, content, entry_lines(text) if with_lines else {})


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def entry_lines(text: str) -> dict[str, list[int]]:
    """Return the lines of the entries of every list at the top of a valid JSON object."""
    decoder = json.JSONDecoder(object_hook=lambda _: None)
    lines: dict[str, list[int]] = {}
    position = _after_space(text, text.index("{") + 1)
    counted = 0  # position up to which `line` has counted
    line = 1
    while text[position] != "}":
        key, position = decoder.raw_decode(text, position)
        position = _after_space(text, position)
        if text[position] != "[":
            position = _after_space(text, decoder.raw_decode(text, position)[1])
            continue
        lines[key] = []
        position = _after_space(text, position + 1)
        while text[position] != "]":
            line += text.count("\n", counted, position)
            counted = position
            lines[key].append(line)
            position = _after_space(text, decoder.raw_decode(text, position)[1])
        position = _after_space(text, position + 1)
    return lines


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()

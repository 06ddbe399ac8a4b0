"""A corrected copy of the annotation files of a data set: the edits of `Faults`, carried out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

from mindyolo_v4.config.text_files import read_text
from mindyolo_v4.data.readers.faults import Edit
from mindyolo_v4.data.readers.voc_file import SIDES
from mindyolo_v4.data.readers.xml_lines import LINE, parse_xml
from mindyolo_v4.errors import printable
from mindyolo_v4.runtime.files import write_text


def write_corrected(
    files: Sequence[Path], edits: Sequence[Edit], root: Path, folder: Path
) -> list[str]:
    """Write every annotation file below `folder`, at its path relative to `root`.

    A file without edits is copied as it is.

    Returns:
        a line for each change.
    """
    changes = []
    by_file: dict[str, list[Edit]] = {}
    for edit in dict.fromkeys(edits):
        by_file.setdefault(edit.file, []).append(edit)
    for file in dict.fromkeys([*files, *map(Path, by_file)]):
        target = _target(file, root, folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        own = by_file.get(str(file), [])
        if not own:
            target.write_bytes(file.read_bytes())
            continue
        correct = {".json": _corrected_json, ".xml": _corrected_xml}.get(
            file.suffix.lower(), _corrected_lines
        )
        write_text(target, correct(file, own))
        changes += [f"{printable(str(target))}: {_told(edit)}" for edit in own]
    return changes


def _target(file: Path, root: Path, folder: Path) -> Path:
    inside = file.is_relative_to(root)
    return folder / (file.relative_to(root) if inside else file.relative_to(file.anchor))


def _told(edit: Edit) -> str:
    """Return what an edit does, in words, with entries counted as in the file."""
    is_xml = edit.file.lower().endswith(".xml")
    what = {
        "line": f"line {edit.entry}",
        "object": f"object {edit.entry + 1}",
        "annotations": f"annotations[{edit.entry}]",
        "images": f"images[{edit.entry}]",
        "size": "size" if is_xml else f"size of image {edit.entry + 1}",
    }[edit.part]
    if edit.value is None:
        return f"{what} removed"
    if isinstance(edit.value, int):
        number = "id" if edit.part == "annotations" else "class"
        return f"{what}: {number} {edit.value}"
    numbers = " ".join(f"{value:.6g}" for value in edit.value)
    return f"{what}: {numbers}" if edit.part == "size" else f"{what}: box {numbers}"


def _corrected_lines(file: Path, edits: Sequence[Edit]) -> str:
    """Return a list, or the rows of a YOLO label file."""
    lines: list[str | None] = list(read_text(file).split("\n"))
    for edit in edits:
        line = lines[edit.entry - 1]
        if edit.value is None or line is None:
            lines[edit.entry - 1] = None
            continue
        class_id, *numbers = line.split()
        if isinstance(edit.value, int):
            class_id = str(edit.value)
        else:
            left, top, right, bottom = edit.value
            centre = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            numbers = [f"{value:.6f}" for value in centre]
        lines[edit.entry - 1] = " ".join([class_id, *numbers])
    return "\n".join(line for line in lines if line is not None)


def _corrected_xml(file: Path, edits: Sequence[Edit]) -> str:
    tree = parse_xml(file)
    objects = tree.findall("object")
    removed: list[Element] = []
    for edit in edits:
        if edit.part == "size" and isinstance(edit.value, tuple):
            for side, value in zip(("width", "height"), edit.value, strict=True):
                _set_text(tree, f"size/{side}", value)
        elif isinstance(edit.value, tuple):
            for side, value in zip(SIDES, edit.value, strict=True):
                _set_text(objects[edit.entry], f"bndbox/{side}", value)
        else:
            removed.append(objects[edit.entry])
    for element in removed:
        if element in list(tree):
            tree.remove(element)
    for element in tree.iter():
        element.attrib.pop(LINE, None)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(tree, "unicode")}\n'


def _set_text(element: Element, tag: str, value: float) -> None:
    child = element.find(tag)
    if child is not None:
        child.text = f"{value:.6g}"


def _corrected_json(file: Path, edits: Sequence[Edit]) -> str:
    text = read_text(file)
    content: dict[str, Any] = json.loads(text)
    removed: dict[str, set[int]] = {"images": set(), "annotations": set()}
    for edit in edits:
        if edit.value is None:
            removed[edit.part].add(edit.entry)
        elif edit.part == "size" and isinstance(edit.value, tuple):
            image = content["images"][edit.entry]
            image["width"], image["height"] = edit.value
        elif isinstance(edit.value, int):
            content["annotations"][edit.entry]["id"] = edit.value
        else:
            _set_box(content["annotations"][edit.entry], edit.value)
    gone = {str(content["images"][number].get("id")) for number in removed["images"]}
    content["images"] = [
        image for number, image in enumerate(content["images"]) if number not in removed["images"]
    ]
    content["annotations"] = [
        entry
        for number, entry in enumerate(content.get("annotations", []))
        if number not in removed["annotations"] and str(entry.get("image_id")) not in gone
    ]
    indent = 1 if "\n" in text.strip() else None
    return json.dumps(content, indent=indent, ensure_ascii=False) + "\n"


def _set_box(entry: dict[str, Any], corners: tuple[float, ...]) -> None:
    left, top, right, bottom = corners
    entry["bbox"] = [left, top, right - left, bottom - top]
    if "area" in entry and not entry.get("segmentation"):
        entry["area"] = (right - left) * (bottom - top)

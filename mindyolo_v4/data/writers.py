"""Data sets written as COCO JSON, YOLO txt and Pascal VOC, so that reading returns equal records.

`tools/packing.py` writes MindRecord files.

Coordinates are written with all their digits: reading them back gives the same float32 numbers.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
import yaml
from numpy.typing import NDArray

from mindyolo_v4.boxes import xyxy_to_cxcywh
from mindyolo_v4.config.text_files import split_lines
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.errors import require

CLASSES = "classes.txt"
DATA_YAML = "data.yaml"
OBJ_DATA = "obj.data"


@dataclass(frozen=True)
class NamedImage:
    """An image of the new data set."""

    record: ImageRecord
    name: str  # of its file


@dataclass(frozen=True)
class SplitContent:
    """What a split of the new data set holds."""

    images: Sequence[NamedImage]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # in COCO ascending


Contents = dict[str, SplitContent]  # by split


def image_folder(form: str, split: str) -> Path:
    """Return where the images of a split lie in a data set of a format."""
    return Path("JPEGImages") if form == "voc" else Path("images", split)


def split_location(form: str, split: str) -> str:
    """Return how a recipe names a split of a data set in any format but "yolo"."""
    return f"annotations/instances_{split}.json" if form == "coco" else split


def write_annotations(form: str, folder: Path, contents: Contents) -> None:
    """Write the annotations of all splits in the format "coco", "yolo" or "voc"."""
    {"coco": _write_coco, "yolo": _write_yolo, "voc": _write_voc}[form](folder, contents)


def options_of(form: str, folder: Path, splits: Sequence[str]) -> str:
    """Return the options by which a command reads a data set that was written, for a shell."""
    if form == "yolo":
        return f"--data {shlex.quote(str(folder / DATA_YAML))}"
    words = [f"--data.format {form} --data_dir {shlex.quote(str(folder))}"]
    words += [f"--data.{split} {split_location(form, split)}" for split in splits]
    if form == "voc":
        words.append(f"--data.names {CLASSES}")
    return " ".join(words)


# ---------------------------------------------------------------- COCO JSON


def _write_coco(folder: Path, contents: Contents) -> None:
    (folder / "annotations").mkdir(parents=True)
    for split, content in contents.items():
        text = json.dumps(_coco_file(content), ensure_ascii=False)
        (folder / split_location("coco", split)).write_text(text, encoding="utf-8")


def _coco_file(content: SplitContent) -> dict[str, Any]:
    pairs = zip(content.category_ids, content.class_names, strict=True)
    categories = [{"id": number, "name": name} for number, name in pairs]

    images = []
    annotations: list[dict[str, Any]] = []
    for image in content.images:
        record = image.record
        size = {"width": record.width, "height": record.height}
        images.append({"id": record.image_id, "file_name": image.name, **size})
        for row in range(len(record.class_ids)):
            left, top, right, bottom = record.boxes_xyxy_px[row].astype(np.float64).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": content.category_ids[record.class_ids[row]],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(record.areas_px[row]),
                    "iscrowd": int(record.ignore[row]),
                }
            )
    return {"images": images, "categories": categories, "annotations": annotations}


# ---------------------------------------------------------------- YOLO txt


def _write_yolo(folder: Path, contents: Contents) -> None:
    """Write label files, lists, data.yaml, and obj.data with obj.names."""
    for split, content in contents.items():
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        lines = []
        for image in content.images:
            rows = "".join(f"{row}\n" for row in _yolo_rows(image.record))
            (labels / f"{Path(image.name).stem}.txt").write_text(rows, encoding="utf-8")
            lines.append(f"./images/{split}/{image.name}\n")
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")

    names = next(iter(contents.values())).class_names
    lists = {split: f"{split}.txt" for split in contents}
    described = {**lists, "nc": len(names), "names": dict(enumerate(names))}
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    (folder / DATA_YAML).write_text(text, encoding="utf-8")

    keys = {"val": "valid"}
    settings = {keys.get(split, split): place for split, place in lists.items()}
    settings = {"classes": str(len(names)), **settings, "names": "obj.names", "backup": "backup"}
    text = "".join(f"{key} = {value}\n" for key, value in settings.items())
    (folder / OBJ_DATA).write_text(text, encoding="utf-8")
    _write_names(folder / "obj.names", names)


def _yolo_rows(record: ImageRecord) -> list[str]:
    size = np.array([record.width, record.height] * 2, np.float64)
    table = xyxy_to_cxcywh(record.boxes_xyxy_px.astype(np.float64) / size).tolist()
    return [
        f"{class_id} {' '.join(map(repr, row))}"
        for class_id, row in zip(record.class_ids.tolist(), table, strict=True)
    ]


def _write_names(path: Path, names: Sequence[str]) -> None:
    """Write one name per line. Raises UserError for one that a line does not hold."""
    for name in names:
        is_line = name == name.strip() and len(split_lines(name)) == 1
        require(is_line, path, "cannot hold a class name with outer spaces or line breaks", name)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


# ---------------------------------------------------------------- Pascal VOC


def _write_voc(folder: Path, contents: Contents) -> None:
    (folder / "Annotations").mkdir(parents=True)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, content in contents.items():
        stems = []
        for image in content.images:
            stem = Path(image.name).stem
            stems.append(f"{stem}\n")
            tree = ElementTree(_voc_file(image, content.class_names))
            tree.write(folder / "Annotations" / f"{stem}.xml", encoding="utf-8")
        (lists / f"{split}.txt").write_text("".join(stems), encoding="utf-8")
    _write_names(folder / CLASSES, next(iter(contents.values())).class_names)


def _voc_file(image: NamedImage, class_names: tuple[str, ...]) -> Element:
    record = image.record
    root = Element("annotation")
    _add(root, "filename", image.name)
    size = SubElement(root, "size")
    for tag, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        _add(size, tag, str(value))
    for row, box in enumerate(record.boxes_xyxy_px):
        item = SubElement(root, "object")
        _add(item, "name", class_names[record.class_ids[row]])
        _add(item, "difficult", str(int(record.ignore[row])))
        edges = SubElement(item, "bndbox")
        for side, text in zip(("xmin", "ymin", "xmax", "ymax"), _shortest(box), strict=True):
            _add(edges, side, text)
    indent(root)
    return root


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _shortest(box: NDArray[np.float32]) -> list[str]:
    """Return the shortest decimals that are these float32 numbers."""
    return [np.format_float_positional(value, trim="-") for value in box]

"""Splits packed into MindRecord files: an index beside the files locates each image.

`tools.to_mindrecord` packs a classifier's images, `tools.convert_data` a detector's.
"""

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages, Shards
from mindyolo_v4.data.images import Packed
from mindyolo_v4.data.readers.class_names import check_class_count, configured_names
from mindyolo_v4.data.readers.faults import FaultError, Faults, Location
from mindyolo_v4.data.readers.files import user_path
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.errors import UserError

INDEX_VERSION = 1
LOCATIONS = ("offsets", "lengths", "crc32")  # of the index: where each image lies, its checksum
_FIELDS = ("version", "files", "sizes", "class_names", "names", "shard_ids", *LOCATIONS)
# arrays of a detector's index with a row per box -> the field of ImageRecord that has the rows
BOX_FIELDS = {
    "box_xyxy_px": "boxes_xyxy_px",
    "box_class_id": "class_ids",
    "box_ignore": "ignore",
    "box_crowd": "crowd",
    "box_area_px": "areas_px",
}
_DETECTOR_FIELDS = (*("category_ids", "image_ids", "sizes_wh_px", "boxes_per_image"), *BOX_FIELDS)
_UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile, zlib.error),
    *(RuntimeError, OverflowError, MemoryError),
)

Arrays = dict[str, np.ndarray]


def index_path(folder: Path, split: str) -> Path:
    """Return where the index of a split lies."""
    return folder / f"{split}.index.npz"


def read_class_split(data: DataConfig, split: str) -> ClassImages:
    """Read one split: packed where `data.mindrecord` holds it, else from `data.root`.

    Raises:
        UserError: names the configuration key or the file that is wrong.
    """
    if data.format != "imagenet":
        raise UserError("data.format", "is for detectors", data.format, "imagenet")
    if data.mindrecord is not None:
        folder = user_path(data.mindrecord).absolute()
        if not any(folder.glob(index_path(Path(), "*").name)):
            expected = "what tools.to_mindrecord wrote"
            raise UserError("data.mindrecord", "holds no packed split", str(folder), expected)
        if index_path(folder, split).is_file():
            return _read_packed_classes(data, folder, split)
    return read_imagenet(data, split)


def read_arrays(path: Path, names: Sequence[str]) -> Arrays:
    """Read the named arrays of an .npz file. Raises FaultError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            absent = [name for name in names if name not in file.files]
            if not absent:
                return {name: file[name] for name in names}
    except _UNREADABLE as error:
        problem = f"is not an index of packed images: {error}"
        raise FaultError("malformed-file", Location(str(path)), problem) from None
    problem = "is of another task, or no index of packed images"
    raise FaultError("malformed-file", Location(str(path)), problem, f"no {absent[0]}")


def read_mindrecord(data: DataConfig, root: Path, key: str, split: Any, faults: Faults) -> Dataset:
    """Read a split that `tools.convert_data` packed; it was checked before.

    Args:
        key: configuration key of the split, for messages.
        split: name of a packed split in `root`.

    Raises:
        UserError: names the key, the index or the MindRecord file that is wrong.
    """
    if not isinstance(split, str):
        expected = "name of a packed split"
        raise UserError(key, "not a split of data.format mindrecord", split, expected)
    source = index_path(root, split)
    if not source.is_file():
        expected = "the name of a split that tools.convert_data packed"
        raise UserError(key, f"not found: there is no {source}", split, expected)
    fields, files = _read_index(source, _DETECTOR_FIELDS)
    names = _class_names(data, root, fields, source)
    bounds = np.cumsum([0, *fields["boxes_per_image"].tolist()])
    columns = zip(*(fields[name].tolist() for name in LOCATIONS), strict=True)
    records = []
    for index, packed in enumerate(columns):
        rows = slice(bounds[index], bounds[index + 1])
        width, height = fields["sizes_wh_px"][index].tolist()
        name = os.fsdecode(bytes(fields["names"][index]))
        record = ImageRecord(
            path=files[fields["shard_ids"][index]] / name,
            width=width,
            height=height,
            image_id=json.loads(fields["image_ids"][index]),
            label_path=str(source),
            packed=Packed(*packed),
            **{field: fields[name][rows] for name, field in BOX_FIELDS.items()},
        )
        records.append(record)
    ids = tuple(fields["category_ids"].tolist())
    return Dataset(Records(records), names, ids, str(source), ())


def _read_packed_classes(data: DataConfig, folder: Path, split: str) -> ClassImages:
    source = index_path(folder, split)
    fields, files = _read_index(source, ("class_ids",))
    root = user_path(data.root) if data.root else folder
    names = _class_names(data, root, fields, source)
    check_class_count(data, names, str(source))
    packed = np.stack([fields[name] for name in LOCATIONS], axis=1).astype(np.int64)
    shards = Shards(files, fields["shard_ids"], packed)
    return ClassImages(folder, fields["names"], fields["class_ids"], names, str(source), (), shards)


def _read_index(source: Path, more: Sequence[str]) -> tuple[Arrays, tuple[Path, ...]]:
    """Return the arrays of an index, and its MindRecord files. Raises FaultError."""
    fields = read_arrays(source, (*_FIELDS, *more))
    version = fields["version"].tolist()
    if version != INDEX_VERSION:
        problem = "was written by another version of this package"
        location = Location(str(source))
        raise FaultError("malformed-file", location, problem, version, INDEX_VERSION)
    files = tuple(source.parent / str(name) for name in fields["files"])
    for path, size in zip(files, fields["sizes"].tolist(), strict=True):
        size_now = path.stat().st_size if path.is_file() else None
        if size_now != size:
            problem = "is missing or not the file that was packed"
            location = Location(str(path))
            raise FaultError("malformed-file", location, problem, size_now, f"{size} bytes")
    return fields, files


def _class_names(data: DataConfig, root: Path, fields: Arrays, source: Path) -> tuple[str, ...]:
    """Return the names of the index, or those of `data.names` in their place."""
    packed = tuple(str(name) for name in fields["class_names"])
    names = configured_names(data, root) or packed
    if len(names) != len(packed):
        problem = f"not as many as the classes of {source}"
        raise UserError("data.names", problem, len(names), len(packed))
    if set(names) == set(packed) and names != packed:
        problem = f"in another order than in {source}"
        raise UserError("data.names", problem, list(names[:3]), list(packed[:3]))
    return names

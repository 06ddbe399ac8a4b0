"""One entry for the annotation formats: a configured split becomes a checked Dataset."""

from dataclasses import replace

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import check_class_count
from mindyolo_v4.data.readers.coco import read_coco
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.faults import Faults, Location
from mindyolo_v4.data.readers.files import data_root
from mindyolo_v4.data.readers.mindrecord import read_mindrecord
from mindyolo_v4.data.readers.selection import select
from mindyolo_v4.data.readers.voc import read_voc
from mindyolo_v4.data.readers.yolo import read_yolo
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError, require

_READERS = {"coco": read_coco, "yolo": read_yolo, "voc": read_voc, "mindrecord": read_mindrecord}


def configured_splits(data: DataConfig) -> list[str]:
    """Return which of train, val and test the data set has. Raises UserError for none."""
    splits = [split for split, location in data.splits.items() if location is not None]
    expected = "at least one of data.train, data.val, data.test"
    require(bool(splits), "data.train", "missing", expected=expected)
    return splits


def read_split(data: DataConfig, split: str, *, faults: Faults | None = None) -> Dataset:
    """Read one split and check it: files, sizes, boxes, classes.

    Args:
        split: "train", "val" or "test", the configuration key that names its files.
        faults: takes what is wrong; by default the first fault that corrupts a training is raised.

    Raises:
        UserError: names the configuration key, or the file and line, that is wrong.
    """
    data = located(data)
    if data.format not in _READERS:
        raise UserError("data.format", "holds no boxes", data.format, " | ".join(_READERS))
    key = f"data.{split}"
    location = data.splits[split]
    root = data_root(data)
    if location is None:
        raise UserError(key, "missing", expected="a split of the data set")
    faults = faults or Faults()
    dataset = _READERS[data.format](data, root, key, location, faults)
    check_class_count(data, dataset.class_names, dataset.source)
    dataset = select(dataset, data, split)
    if len(dataset.records.boxes()) > 0:  # crowd and difficult boxes are neither trained nor scored
        return dataset
    location = Location(dataset.source)
    if split == "train":
        faults.refuse("no-boxes", location, "holds no boxes to train on")
    else:
        faults.warn("info-no-boxes", location, "holds no boxes, its AP is undefined")
    return replace(dataset, warnings=tuple(faults.warnings))

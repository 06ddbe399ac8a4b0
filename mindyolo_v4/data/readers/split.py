"""One entry for the three annotation formats: a split of the configuration becomes a checked Dataset."""

from dataclasses import replace
from pathlib import Path

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import check_class_count
from mindyolo_v4.data.readers.coco import read_coco
from mindyolo_v4.data.readers.voc import read_voc
from mindyolo_v4.data.readers.yolo import read_yolo
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

_READERS = {"coco": read_coco, "yolo": read_yolo, "voc": read_voc}


def read_split(data: DataConfig, split: str, *, check_headers: bool = True) -> Dataset:
    """Read one split and check it: files, sizes, boxes, classes.

    Args:
        split: "train", "val" or "test"; the configuration's value under that key tells where it lies.
        check_headers: open every image's header. False trusts the sizes in COCO and VOC annotations and opens no image
            that has one, for tools that need boxes alone.

    Raises:
        UserError: names the configuration key, or the file and line, that is wrong.
    """
    if data.format not in _READERS:
        raise UserError("data.format", "holds no boxes", data.format, " | ".join(_READERS))
    if data.resize in ("crop", "stretch_crop"):
        raise UserError("data.resize", "would cut boxes off", data.resize, "letterbox | stretch")
    key = f"data.{split}"
    location = {"train": data.train, "val": data.val, "test": data.test}[split]
    if data.root is None:
        raise UserError(
            "data.root", "missing", expected="the folder that holds the data set (--data_dir DIR)"
        )
    root = Path(data.root).expanduser()
    root = (
        root.resolve() if ".." in root.parts else root.absolute()
    )  # else names stay as the user knows them
    if not root.is_dir():
        raise UserError("data.root", "folder not found", str(root))
    if location is None:
        raise UserError(key, "missing", expected="a split of the data set")
    dataset = _READERS[data.format](data, root, key, location, check_headers)
    check_class_count(data, dataset.class_names, dataset.source)
    if not any(len(record.boxes_xyxy_px) for record in dataset.records):
        if split == "train":
            raise UserError(dataset.source, "holds no boxes to train on")
        note = f"{dataset.source}: holds no boxes, its AP is undefined"
        return replace(dataset, warnings=(*dataset.warnings, note))
    return dataset


def warning_lines(dataset: Dataset, limit: int = 10) -> list[str]:
    """Return the first `limit` warnings, and a line that counts the others."""
    lines = list(dataset.warnings[:limit])
    if len(dataset.warnings) > limit:
        lines.append(f"... and {len(dataset.warnings) - limit} more warnings of {dataset.source}")
    return lines

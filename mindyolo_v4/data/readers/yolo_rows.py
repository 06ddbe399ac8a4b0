"""The rows of YOLO label files: boxes, polygons, and boxes with key points."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.text_files import read_lines
from mindyolo_v4.data.readers.class_names import key_point_shape
from mindyolo_v4.data.readers.ground_truth import FRACTION_TOLERANCE, RawBox
from mindyolo_v4.errors import UserError

_ROW = "class cx cy w h"
_LONGER = f"{_ROW}, or class and three or more points"
_SLACK = 0.1  # of a box's side, by which a key point may lie outside the box
_SHOWN = 80  # characters of a wrong row


class _LongRow(NamedTuple):
    """A row of more than a box."""

    image: int
    label: Path
    line: int
    values: list[float]

    def error(self, problem: str, expected: str) -> UserError:
        got = " ".join(f"{value:g}" for value in self.values)[:_SHOWN]
        return UserError(f"{self.label}:{self.line}", problem, got, expected)


def read_rows(
    labels: Sequence[Path | None], class_count: int, data: DataConfig, root: Path
) -> tuple[list[RawBox], list[str]]:
    """Return the boxes of all label files, image by image, and warnings.

    Raises:
        UserError: names the label file and the line that is wrong.
    """
    boxes: list[RawBox] = []
    long_rows: list[_LongRow] = []
    for image, label in enumerate(labels):
        if label is None:
            continue
        for number, line in enumerate(read_lines(label), 1):
            fields = line.split()
            if not fields:
                continue
            try:
                values = [float(text) for text in fields]
            except ValueError:
                got = line.strip()[:_SHOWN]
                raise UserError(f"{label}:{number}", "not numbers", got, _ROW) from None
            fault = _fault(values, class_count)
            if fault:
                raise UserError(f"{label}:{number}", fault[0], line.strip()[:_SHOWN], fault[1])
            if len(values) > 5:
                long_rows.append(_LongRow(image, label, number, values))
            else:
                boxes.append(RawBox(image, _corners(values), int(values[0]), f":{number}"))
    if not long_rows:
        return boxes, []
    more_boxes, warnings = _read_long_rows(long_rows, data, root)
    boxes += more_boxes
    boxes.sort(key=lambda box: (box.image, int(box.entry[1:])))
    return boxes, warnings


def _read_long_rows(
    rows: list[_LongRow], data: DataConfig, root: Path
) -> tuple[list[RawBox], list[str]]:
    """Tell poses from polygons, by the set's YAML file or by the rows themselves."""
    warnings = []
    shape = key_point_shape(data, root)
    numbers = 5 + shape[0] * shape[1] if shape is not None else 0
    if shape is None and _hold_key_points([row.values for row in rows]):
        numbers = len(rows[0].values)
        meaning = "read as class cx cy w h and key points (kpt_shape in data.yaml makes it certain)"
        warnings = [f"{rows[0].label}:{rows[0].line}: rows of {numbers} numbers {meaning}"]

    boxes = []
    for row in rows:
        if numbers and len(row.values) != numbers:
            raise row.error("wrong number of fields", f"{_ROW} and {numbers - 5} of key points")
        if not numbers and (len(row.values) < 7 or len(row.values) % 2 == 0):
            raise row.error("wrong number of fields", _LONGER)
        values = row.values[:5] if numbers else row.values
        fault = _coordinate_fault(values)
        if fault:
            raise row.error(*fault)
        boxes.append(RawBox(row.image, _corners(values), int(values[0]), f":{row.line}"))
    return boxes, warnings


def _hold_key_points(rows: list[list[float]]) -> bool:
    """Tell whether most rows are a box inside the image, then points inside that box.

    All rows of poses are equally long. Read as a box and points, a polygon hardly ever fits. A
    point may be missing (0 0), and may have a visibility of 0, 1 or 2.
    """
    length = len(rows[0])
    if any(len(values) != length for values in rows):
        return False
    table = np.array(rows)[:, 1:]
    centre = table[:, None, :2]
    half = table[:, None, 2:4] / 2
    is_box = (np.abs(centre - 0.5) + half <= 0.5 + FRACTION_TOLERANCE) & (half > 0)
    for numbers in (2, 3):
        if (length - 5) % numbers:
            continue
        points = table[:, 4:].reshape(len(rows), -1, numbers)
        is_inside = (np.abs(points[..., :2] - centre) <= half * (1 + 2 * _SLACK)).all(axis=2)
        is_missing = (points[..., :2] == 0).all(axis=2)
        fits = is_box.all(axis=(1, 2)) & (is_inside | is_missing).all(axis=1)
        fits &= is_inside.any(axis=1) & np.isin(points[..., 2:], (0, 1, 2)).all(axis=(1, 2))
        if fits.mean() > 0.5:
            return True
    return False


def _fault(values: list[float], class_count: int) -> tuple[str, str] | None:
    """Return what is wrong with a row as (problem, expected), or None."""
    if len(values) < 5:
        return "wrong number of fields", _LONGER
    if not all(map(math.isfinite, values)):
        return "not finite", _ROW
    if not (values[0].is_integer() and 0 <= values[0] < class_count):
        return "class out of range", f"0 to {class_count - 1}"
    return _coordinate_fault(values) if len(values) == 5 else None


def _coordinate_fault(values: list[float]) -> tuple[str, str] | None:
    if min(values[1:]) < -FRACTION_TOLERANCE or max(values[1:]) > 1 + FRACTION_TOLERANCE:
        return "coordinates are not fractions of the image", "0 to 1"
    if len(values) == 5 and min(values[3:]) < 0:
        return "negative width or height", "0 to 1"
    return None


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    """Return the box of a row, or the box around its polygon."""
    if len(values) == 5:
        _, x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2])

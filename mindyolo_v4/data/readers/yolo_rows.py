"""The rows of YOLO label files: boxes, polygons, and boxes with key points."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.box_checks import FRACTION_TOLERANCE
from mindyolo_v4.data.readers.class_names import key_point_shape
from mindyolo_v4.data.readers.faults import (
    Edit,
    FaultError,
    Faults,
    Kind,
    Location,
    annotation_lines,
)
from mindyolo_v4.data.readers.headers import read_header
from mindyolo_v4.data.readers.raw import RawBox

_ROW = "class cx cy w h"
_LONGER = f"{_ROW}, or class and three or more points"
_SLACK = 0.1  # of a box's side, by which a key point may lie outside the box
_SHOWN = 80  # characters of a wrong row
_NEARLY_ALL = 0.9  # of the rows that look like poses
_FOUR_CORNERS = 9  # numbers of a row: a class and four points, as oriented boxes have them
_LEAST_PIXELS = 2  # no fraction is wrong by so much, and hardly a box in pixels lies below
_MOST_MEGABYTES = 10  # of a label file; a polygon of 1,000 points takes 0.02


class _LongRow(NamedTuple):
    """A row of more than a box."""

    image: int
    label: Path
    line: int
    values: list[float]

    def refuse(
        self, kind: Kind, problem: str, expected: str, faults: Faults, is_removed: bool = True
    ) -> None:
        got = " ".join(f"{value:g}" for value in self.values)[:_SHOWN]
        removal = Edit(str(self.label), "line", self.line, None) if is_removed else None
        location = Location(str(self.label), self.line)
        faults.refuse(kind, location, problem, got, expected, removal)


class _RefusedRow(NamedTuple):
    """A row with a fault."""

    edit: Edit  # mends it, or removes it
    values: list[float]  # none where one is not a number
    has_next_id: bool  # its class id is the number of classes


def read_rows(
    files: Sequence[tuple[Path, Path | None]],
    class_count: int,
    data: DataConfig,
    root: Path,
    faults: Faults,
) -> list[RawBox]:
    """Return the boxes of all label files, image by image.

    Args:
        files: images, and their label files.

    Raises:
        FaultError: names the label file and the line that is wrong.
    """
    boxes: list[RawBox] = []
    long_rows: list[_LongRow] = []
    refused: list[_RefusedRow] = []
    for image, (path, label) in enumerate(files):
        if label is None:
            continue
        with faults.go_on():
            for number, line in enumerate(_lines(label), 1):
                fields = line.split()
                if not fields:
                    continue
                values = _numbers(fields)
                fault = _fault(values, class_count)
                if fault:
                    kind, problem, expected = fault
                    edit = Edit(str(label), "line", number, _corrected(kind, values, path, data))
                    got = line.strip()[:_SHOWN]
                    location = Location(str(label), number)
                    is_next = kind == "unknown-class" and values[0] == class_count
                    faults.refuse(kind, location, problem, got, expected, None if is_next else edit)
                    refused.append(_RefusedRow(edit, values, is_next))
                elif len(values) > 5:
                    long_rows.append(_LongRow(image, label, number, values))
                else:
                    boxes.append(RawBox(image, _corners(values), int(values[0]), number, number))
    if any(row.has_next_id for row in refused):
        rows = [(str(files[box.image][1]), box.number, box.class_id) for box in boxes]
        rows += [(str(row.label), row.line, int(row.values[0])) for row in long_rows]
        _tell_ids_from_one(refused, rows, faults)
    if long_rows:
        boxes += _read_long_rows(long_rows, data, root, faults)
        boxes.sort(key=lambda box: (box.image, box.number))
    return boxes


def _lines(label: Path) -> list[str]:
    """Return the lines of a label file. Raises FaultError, also for one too large to be labels."""
    megabytes = label.stat().st_size / 1e6
    if megabytes > _MOST_MEGABYTES:
        problem = "too large for the labels of one image"
        got = f"{megabytes:.0f} MB"
        expected = f"at most {_MOST_MEGABYTES} MB"
        raise FaultError("malformed-file", Location(str(label)), problem, got, expected)
    return annotation_lines(label)


def _tell_ids_from_one(
    refused: list[_RefusedRow], rows: list[tuple[str, int, int]], faults: Faults
) -> None:
    """Report class ids that start at 1.

    Args:
        rows: file, line and class of every row that was not refused.
    """
    of_next_id = [row.edit for row in refused if row.has_next_id]
    ids = {class_id for _, _, class_id in rows} | {row.values[0] for row in refused if row.values}
    if 0 in ids:
        faults.edits += of_next_id
        return
    first = of_next_id[0]
    problem = f"class ids seem to start at 1: {len(of_next_id)} rows have the id after the last"
    location = Location(first.file, first.entry)
    faults.note("class-ids-from-one", location, f"{problem}, and none has the id 0")
    rows += [
        (row.edit.file, row.edit.entry, int(row.values[0]))
        for row in refused
        if row.has_next_id or row.edit.value is not None
    ]
    faults.edits += [Edit(label, "line", line, class_id - 1) for label, line, class_id in rows]


def _corrected(
    kind: Kind, values: list[float], image: Path, data: DataConfig
) -> tuple[float, ...] | None:
    """Return the corners that a wrong row means, in fractions, or None."""
    if len(values) != 5 or kind not in ("pixels-for-fractions", "box-turned-round"):
        return None
    if kind == "box-turned-round":
        return _corners([*values[:3], abs(values[3]), abs(values[4])])
    try:
        header = read_header(image, data.max_megapixels)
    except OSError:
        return None
    if min(values[1:]) < 1 or max(values[1:]) < _LEAST_PIXELS:
        return None  # rather a fraction that is wrong than pixels
    sides = (header.width, header.height) * 2
    fractions = [value / side for value, side in zip(values[1:], sides, strict=True)]
    return _corners([values[0], *fractions]) if 0 <= min(fractions) <= max(fractions) <= 1 else None


def _read_long_rows(
    rows: list[_LongRow], data: DataConfig, root: Path, faults: Faults
) -> list[RawBox]:
    """Tell poses from polygons, by the set's YAML file or by the rows themselves."""
    shape = key_point_shape(data, root)
    if shape is None:
        numbers = _pose_numbers(rows, faults)
    else:
        numbers = 5 + shape[0] * shape[1] if shape[0] else 0

    boxes = []
    for row in rows:
        if numbers and len(row.values) != numbers:
            expected = f"{_ROW} and {numbers - 5} of key points"
            row.refuse("malformed-row", "wrong number of fields", expected, faults)
            continue
        if not numbers and (len(row.values) < 7 or len(row.values) % 2 == 0):
            row.refuse("malformed-row", "wrong number of fields", _LONGER, faults)
            continue
        values = row.values[:5] if numbers else row.values
        fault = _coordinate_fault(values)
        if fault:
            row.refuse(*fault, faults)
            continue
        box = RawBox(
            image=row.image,
            box_xyxy=_corners(values),
            class_id=int(values[0]),
            number=row.line,
            line=row.line,
            has_points=True,
        )
        boxes.append(box)
    return boxes


def _pose_numbers(rows: list[_LongRow], faults: Faults) -> int:
    """Return how many numbers each row has if the rows are poses, 0 if they are polygons.

    Rows that may be both are polygons if they have four corners, and are refused otherwise.
    """
    numbers = len(rows[0].values)
    if any(len(row.values) != numbers for row in rows):
        return 0  # all rows of poses are equally long
    reading = _reading(np.array([row.values[1:] for row in rows]))
    if reading == "polygons" or (reading == "either" and numbers == _FOUR_CORNERS):
        return 0
    if reading == "either":
        problem = f"rows of {numbers} numbers may be polygons, or {_ROW} and key points"
        expected = f"kpt_shape in data.yaml: [{(numbers - 5) // 2}, 2], or [0, 2] for polygons"
        rows[0].refuse("malformed-row", problem, expected, faults, is_removed=False)
        return 0
    meaning = "read as class cx cy w h and key points (kpt_shape in data.yaml makes it certain)"
    location = Location(str(rows[0].label), rows[0].line)
    faults.warn("info-key-points", location, f"rows of {numbers} numbers {meaning}")
    return numbers


def _reading(table: NDArray[np.float64]) -> Literal["poses", "polygons", "either"]:
    """Tell whether most rows (N, numbers) are a box inside the image, then points inside that box.

    Read as a box and points, a polygon hardly ever fits, unless it lies near the image's centre. A
    point may have a visibility of 0, 1 or 2, and may be missing: 0 0, below 0, or not visible. A
    row of which all points are missing is a pose, too: no polygon repeats a corner like that.
    """
    centre = table[:, None, :2]
    half = table[:, None, 2:4] / 2
    is_box = (np.abs(centre - 0.5) + half <= 0.5 + FRACTION_TOLERANCE) & (half > 0)
    for numbers in (3, 2):
        if (table.shape[1] - 4) % numbers:
            continue
        points = table[:, 4:].reshape(len(table), -1, numbers)
        is_inside = (np.abs(points[..., :2] - centre) <= half * (1 + 2 * _SLACK)).all(axis=2)
        is_missing = (points[..., :2] <= 0).all(axis=2) | (points[..., 2:] == 0).any(axis=2)
        fits = is_box.all(axis=(1, 2)) & (is_inside | is_missing).all(axis=1)
        fits &= np.isin(points[..., 2:], (0, 1, 2)).all(axis=(1, 2))
        # a single missing point could be the third corner of a polygon
        tells = is_inside.any(axis=1) | (points.shape[1] > 1)
        if tells.any() and fits[tells].mean() > 0.5:
            if numbers == 3:  # of polygons, hardly every third coordinate is a visibility
                return "poses"
            may_be_polygon = (_may_be_polygon(table) & is_inside.all(axis=1))[fits & tells]
            return "either" if may_be_polygon.mean() >= _NEARLY_ALL else "poses"
    return "polygons"


def _may_be_polygon(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return of which rows (N, 2 P) width and height may be a corner, too.

    It lies near the others, no further than they from one another, and no corner repeats the next.
    """
    corners = table.reshape(len(table), -1, 2)
    others = np.delete(corners, 1, axis=1)
    low = others.min(axis=1)
    high = others.max(axis=1)
    is_near = (np.abs(corners[:, 1] - (low + high) / 2) <= 1.5 * (high - low)).all(axis=1)
    return is_near & (np.diff(corners, axis=1) != 0).any(axis=2).all(axis=1)


def _numbers(fields: Sequence[str]) -> list[float]:
    """Return the numbers of a row, or none where one is not a number."""
    try:
        return [float(text) for text in fields]
    except ValueError:
        return []


def _fault(values: list[float], class_count: int) -> tuple[Kind, str, str] | None:
    """Return what is wrong with a row as (kind, problem, expected), or None."""
    if not values:
        return "malformed-row", "not numbers", _ROW
    if len(values) < 5:
        return "malformed-row", "wrong number of fields", _LONGER
    if not all(map(math.isfinite, values)):
        return "malformed-row", "not finite", _ROW
    if not (values[0].is_integer() and 0 <= values[0] < class_count):
        return "unknown-class", "class out of range", f"0 to {class_count - 1}"
    return _coordinate_fault(values) if len(values) == 5 else None


def _coordinate_fault(values: list[float]) -> tuple[Kind, str, str] | None:
    if min(values[1:]) < -FRACTION_TOLERANCE or max(values[1:]) > 1 + FRACTION_TOLERANCE:
        problem = "coordinates are not fractions of the image"
        return "pixels-for-fractions", problem, "0 to 1"
    if len(values) == 5 and min(values[3:]) < 0:
        return "box-turned-round", "negative width or height", "0 to 1"
    return None


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    """Return the box of a row, or the box around its polygon."""
    if len(values) == 5:
        _, x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2])

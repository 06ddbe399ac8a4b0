"""From listed images and raw boxes to clean records; the part that all three formats share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.readers.headers import ImageHeader, read_headers, turn_boxes
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.errors import UserError


@dataclass(frozen=True)
class ListedImage:
    """An image as the annotations name it."""

    path: Path  # absolute
    image_id: int | str
    label_path: str  # file that holds its annotations
    place: str  # what names it, for messages: "train.txt:7", "train.json: image 12"
    stated_size: tuple[int, int] | None = (
        None  # width and height according to the annotations, pixels
    )


@dataclass
class RawTruths:
    """Boxes of a whole split as they stand in the files: one entry a box in every column."""

    unit: Literal["pixels", "fractions"]  # fractions of the image's width and height (YOLO)
    place_word: str  # stands between label_path and place in messages: ":" or ": annotation "
    repeats: Literal[
        "drop", "keep"
    ]  # COCO keeps them: its truths are told apart by id, and its server counts them
    images: list[int] = field(default_factory=list)  # index into the listed images
    boxes_xyxy: list[tuple[float, float, float, float]] = field(default_factory=list)
    class_ids: list[int] = field(default_factory=list)
    ignore: list[bool] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    areas_px: list[float] = field(default_factory=list)  # nan: not stated
    places: list[int | str] = field(default_factory=list)  # line, or annotation id

    def add(
        self,
        image: int,
        box_xyxy: tuple[float, float, float, float],
        class_id: int,
        place: int | str,
        ignore: bool = False,
        crowd: bool = False,
        area_px: float = math.nan,
    ) -> None:
        """Append one box."""
        self.images.append(image)
        self.boxes_xyxy.append(box_xyxy)
        self.class_ids.append(class_id)
        self.ignore.append(ignore)
        self.crowd.append(crowd)
        self.areas_px.append(area_px)
        self.places.append(place)


def build_records(
    images: Sequence[ListedImage], truths: RawTruths, check_headers: bool
) -> tuple[tuple[ImageRecord, ...], tuple[str, ...]]:
    """Return one record an image, in order, and a warning for every box that was dropped.

    Dropped are boxes without area, boxes outside their image, and repeated rows; boxes that reach over the border are
    clipped. Headers are read when `check_headers`, and else only where the annotations state no size.

    Raises:
        UserError: a missing or unreadable image, an image listed twice, a stated size that is not the image's.
    """
    _refuse_repeated_images(images)
    headers = _headers(images, check_headers)
    boxes = np.array(truths.boxes_xyxy, np.float64).reshape(-1, 4)
    owners = np.array(truths.images, np.int64)
    sizes = np.array([(h.width, h.height) for h in headers], np.float64).reshape(-1, 2)
    warnings = _move_to_decoded(boxes, owners, images, headers)
    if truths.unit == "fractions":
        boxes *= np.tile(sizes[owners], 2)
    clipped = np.clip(boxes, 0, np.tile(sizes[owners], 2)).astype(np.float32)
    kept, dropped = _keep(boxes, clipped, owners, truths)
    for index, reason in dropped:
        place = f"{images[owners[index]].label_path}{truths.place_word}{truths.places[index]}"
        warnings.append(f"{place}: {reason}, box dropped (got {_shown(boxes[index])})")
    order = kept[np.argsort(owners[kept], kind="stable")]
    return _slice_records(images, headers, clipped[order], owners[order], truths, order), tuple(
        warnings
    )


def _refuse_repeated_images(images: Sequence[ListedImage]) -> None:
    seen: dict[Path, str] = {}
    for image in images:
        first = seen.setdefault(image.path, image.place)
        if first is not image.place:
            raise UserError(
                image.place,
                f"image is listed twice, first at {first}",
                str(image.path),
                "each image once",
            )


def _headers(images: Sequence[ListedImage], check_headers: bool) -> list[ImageHeader]:
    headers = [
        ImageHeader(*image.stated_size, 1) if image.stated_size else None for image in images
    ]
    wanted = [index for index, header in enumerate(headers) if check_headers or header is None]
    read = read_headers([images[i].path for i in wanted], [images[i].place for i in wanted])
    for index, header in zip(wanted, read, strict=True):
        headers[index] = header
    return [header for header in headers if header is not None]


def _move_to_decoded(
    boxes: NDArray[np.float64],
    owners: NDArray[np.int64],
    images: Sequence[ListedImage],
    headers: Sequence[ImageHeader],
) -> list[str]:
    """Turn, in place, the boxes of images that were annotated without regard to EXIF; refuse any other mismatch."""
    warnings = []
    for index, (image, header) in enumerate(zip(images, headers, strict=True)):
        if image.stated_size is None or _near(image.stated_size, (header.width, header.height)):
            continue
        if header.orientation < 5 or not _near(image.stated_size, (header.height, header.width)):
            raise UserError(
                image.place,
                f"stated size is not that of {image.path}",
                "{} x {}".format(*image.stated_size),
                f"{header.width} x {header.height}",
            )
        own = owners == index
        boxes[own] = turn_boxes(boxes[own], header)
        warnings.append(
            f"{image.place}: {image.path.name} was annotated without its EXIF orientation, boxes turned"
        )
    return warnings


def _near(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return abs(first[0] - second[0]) <= 1 and abs(first[1] - second[1]) <= 1


def _keep(
    boxes: NDArray[np.float64],
    clipped: NDArray[np.float32],
    owners: NDArray[np.int64],
    truths: RawTruths,
) -> tuple[NDArray[np.int64], list[tuple[int, str]]]:
    """Return indices of the boxes that stay, ascending, and (index, reason) of the others."""
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    outside = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1) & ~empty
    repeated = np.zeros(len(boxes), bool)
    if truths.repeats == "drop" and len(boxes):
        flags = np.array([truths.class_ids, truths.ignore], np.float64).T
        rows = np.concatenate([owners[:, None], flags, boxes], axis=1)
        repeated[:] = True
        repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
        repeated &= ~(empty | outside)
    reasons = (
        (empty, "no area"),
        (outside, "outside the image"),
        (repeated, "repeats an earlier one"),
    )
    dropped = [(int(index), reason) for mask, reason in reasons for index in np.flatnonzero(mask)]
    return np.flatnonzero(~(empty | outside | repeated)), sorted(dropped)


def _shown(box: NDArray[np.float64]) -> str:
    return "{:g} {:g} {:g} {:g}".format(*box)


def _slice_records(
    images: Sequence[ListedImage],
    headers: Sequence[ImageHeader],
    boxes: NDArray[np.float32],
    owners: NDArray[np.int64],
    truths: RawTruths,
    order: NDArray[np.int64],
) -> tuple[ImageRecord, ...]:
    class_ids = np.array(truths.class_ids, np.int64)[order]
    ignore = np.array(truths.ignore, bool)[order]
    crowd = np.array(truths.crowd, bool)[order]
    areas = np.array(truths.areas_px, np.float64)[order]
    own_areas = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).prod(axis=1)
    areas = np.where(np.isnan(areas), own_areas, areas)
    ends = np.searchsorted(owners, np.arange(len(images)), side="right").tolist()
    records = []
    start = 0
    for image, header, end in zip(images, headers, ends, strict=True):
        rows = slice(start, end)
        records.append(
            ImageRecord(
                path=image.path,
                width=header.width,
                height=header.height,
                boxes_xyxy_px=boxes[rows],
                class_ids=class_ids[rows],
                ignore=ignore[rows],
                crowd=crowd[rows],
                areas_px=areas[rows],
                image_id=image.image_id,
                label_path=image.label_path,
            )
        )
        start = end
    return tuple(records)

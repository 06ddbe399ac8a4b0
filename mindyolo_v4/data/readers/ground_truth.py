"""From listed images and raw boxes to clean records; the part that all three formats share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.headers import ImageHeader, read_headers, turn_boxes
from mindyolo_v4.data.records import ImageRecord, Records
from mindyolo_v4.errors import UserError

# fractions may leave [0, 1] by this much: rounding and unclipped boxes, not pixels
FRACTION_TOLERANCE = 0.01


@dataclass(frozen=True)
class ListedImage:
    """An image as the annotations name it."""

    path: Path  # absolute
    image_id: int | str
    label_path: str  # file that holds its annotations; "" where there is none
    entry: str  # what names it in messages: "train.txt:7", "train.json: image 12"
    stated_size: tuple[int, int] | None = None  # width and height in the annotations, pixels


class RawBox(NamedTuple):
    """One box as it stands in the file, in pixels or, for YOLO, in fractions of the image."""

    image: int  # index into the listed images
    box_xyxy: tuple[float, float, float, float]
    class_id: int
    entry: str  # what names it in messages, after `label_path`: ":7", ": annotation 12"
    ignore: bool = False
    crowd: bool = False
    area_px: float = math.nan  # nan: not stated


def build_records(
    images: Sequence[ListedImage],
    boxes: Sequence[RawBox],
    check_headers: bool,
    max_megapixels: float = DataConfig.max_megapixels,
    are_fractions: bool = False,
    have_ids: bool = False,
) -> tuple[Records, tuple[str, ...]]:
    """Return one record per image, in order, and a warning for every box that was dropped.

    Boxes without area, boxes outside their image and repeated boxes are dropped; boxes that reach
    over the border are clipped.

    Args:
        check_headers: read all headers, not only where the annotations state no size.
        have_ids: COCO's images and boxes have ids. A repeated image would be counted twice; a
            repeated box counts twice on COCO's server, too. A list repeats images on purpose.

    Raises:
        UserError: a missing or unreadable image, an image that has two ids, a stated size that is
            not the image's, boxes in fractions where pixels belong.
    """
    warnings = _repeated_images(images, have_ids)
    headers = _headers(images, check_headers, max_megapixels)
    deep = [image.path for image, header in zip(images, headers, strict=True) if header.is_deep]
    if deep:
        problem = "more than 8 bits per channel and are scaled by the range of their pixels"
        warnings.append(f"{len(deep)} images, such as {deep[0]}, have {problem}")
    owners = np.array([box.image for box in boxes], np.int64)
    raw_xyxy = np.array([box.box_xyxy for box in boxes], np.float64).reshape(-1, 4)
    if not are_fractions:
        _refuse_fractions(raw_xyxy, images, boxes)
    warnings += _turn_to_decoded(raw_xyxy, owners, images, headers)

    sizes = np.array([(header.width, header.height) for header in headers], np.float64)
    limits = np.tile(sizes.reshape(-1, 2)[owners], 2)
    if are_fractions:
        raw_xyxy *= limits
    clipped = np.clip(raw_xyxy, 0, limits).astype(np.float32)

    reasons = {
        "no area": (raw_xyxy[:, 2:] <= raw_xyxy[:, :2]).any(axis=1),
        "outside the image": (clipped[:, 2:] <= clipped[:, :2]).any(axis=1),
        "repeats an earlier one": np.zeros(len(boxes), bool),
    }
    if not have_ids:
        reasons["repeats an earlier one"] = _repeated(boxes, raw_xyxy)
    kept = ~np.any(list(reasons.values()), axis=0)
    for index in np.flatnonzero(~kept):
        reason = next(reason for reason, applies in reasons.items() if applies[index])
        where = f"{images[owners[index]].label_path}{boxes[index].entry}"
        got = "{:g} {:g} {:g} {:g}".format(*raw_xyxy[index])
        warnings.append(f"{where}: {reason}, box dropped (got {got})")

    order = np.flatnonzero(kept)
    order = order[np.argsort(owners[order], kind="stable")]
    kept_boxes = [boxes[index] for index in order]
    return _slice_records(images, headers, kept_boxes, clipped[order]), tuple(warnings)


def _repeated_images(images: Sequence[ListedImage], have_ids: bool) -> list[str]:
    """Refuse, or warn once of, images that are named more than once."""
    first_entry: dict[Path, str] = {}
    repeated = []
    for image in images:
        if image.path not in first_entry:
            first_entry[image.path] = image.entry
            continue
        problem = f"image is listed twice, first at {first_entry[image.path]}"
        if have_ids:
            raise UserError(image.entry, problem, str(image.path), "each image once")
        repeated.append(f"{image.entry}: {problem}")
    if not repeated:
        return []
    return [f"{repeated[0]}; {len(repeated)} repeated lines are kept as they are"]


def _refuse_fractions(
    boxes_xyxy: NDArray[np.float64], images: Sequence[ListedImage], boxes: Sequence[RawBox]
) -> None:
    """Raise UserError where all boxes that have an area lie within 0 to 1."""
    has_area = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    if not has_area.any() or boxes_xyxy[has_area].max() > 1 + FRACTION_TOLERANCE:
        return
    first = int(has_area.argmax())
    where = f"{images[boxes[first].image].label_path}{boxes[first].entry}"
    got = "{:g} {:g} {:g} {:g}".format(*boxes_xyxy[first])
    expected = "pixels: multiply by the image's width and height"
    raise UserError(where, "all boxes are fractions of the image", got, expected)


def _headers(
    images: Sequence[ListedImage], check_headers: bool, max_megapixels: float
) -> list[ImageHeader]:
    wanted = [image for image in images if check_headers or image.stated_size is None]
    paths = [image.path for image in wanted]
    read = iter(read_headers(paths, [image.entry for image in wanted], max_megapixels))
    return [
        next(read)
        if check_headers or image.stated_size is None
        else ImageHeader(*image.stated_size, orientation=1)
        for image in images
    ]


def _turn_to_decoded(
    boxes_xyxy: NDArray[np.float64],
    owners: NDArray[np.int64],
    images: Sequence[ListedImage],
    headers: Sequence[ImageHeader],
) -> list[str]:
    """Turn, in place, the boxes that were annotated without regard to EXIF; return warnings."""
    warnings = []
    for index, (image, header) in enumerate(zip(images, headers, strict=True)):
        size = (header.width, header.height)
        if image.stated_size is None or _near(image.stated_size, size):
            continue
        if header.orientation < 5 or not _near(image.stated_size, size[::-1]):
            problem = f"stated size is not that of {image.path}"
            stated = "{} x {}".format(*image.stated_size)
            raise UserError(image.entry, problem, stated, f"{header.width} x {header.height}")
        own = owners == index
        boxes_xyxy[own] = turn_boxes(boxes_xyxy[own], header)
        problem = "was annotated without its EXIF orientation, boxes turned"
        warnings.append(f"{image.entry}: {image.path.name} {problem}")
    return warnings


def _near(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return abs(first[0] - second[0]) <= 1 and abs(first[1] - second[1]) <= 1


def _repeated(boxes: Sequence[RawBox], boxes_xyxy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes (N,) an earlier box of the same image, class and flag equals."""
    labels = [(box.image, box.class_id, box.ignore) for box in boxes]
    rows = np.concatenate([np.array(labels, np.float64).reshape(-1, 3), boxes_xyxy], axis=1)
    is_repeated = np.ones(len(boxes), bool)
    is_repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return is_repeated


def _slice_records(
    images: Sequence[ListedImage],
    headers: Sequence[ImageHeader],
    boxes: Sequence[RawBox],
    boxes_xyxy_px: NDArray[np.float32],
) -> Records:
    """Return one record per image of boxes (N,), (N, 4) that are sorted by image."""
    owners = np.array([box.image for box in boxes], np.int64)
    class_ids = np.array([box.class_id for box in boxes], np.int64)
    ignore = np.array([box.ignore for box in boxes], bool)
    crowd = np.array([box.crowd for box in boxes], bool)
    stated_areas = np.array([box.area_px for box in boxes], np.float64)
    own_areas = (boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).astype(np.float64).prod(axis=1)
    areas = np.where(np.isnan(stated_areas), own_areas, stated_areas)
    bounds = np.searchsorted(owners, np.arange(len(images) + 1)).tolist()
    records = []
    for index, (image, header) in enumerate(zip(images, headers, strict=True)):
        rows = slice(bounds[index], bounds[index + 1])
        record = ImageRecord(
            path=image.path,
            width=header.width,
            height=header.height,
            boxes_xyxy_px=boxes_xyxy_px[rows],
            class_ids=class_ids[rows],
            ignore=ignore[rows],
            crowd=crowd[rows],
            areas_px=areas[rows],
            image_id=image.image_id,
            label_path=image.label_path,
        )
        records.append(record)
    return Records(records)

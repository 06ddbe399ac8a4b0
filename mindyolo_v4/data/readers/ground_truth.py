"""From listed images and raw boxes to clean records; the part that all three formats share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.faults import Edit, Faults, Kind, Place
from mindyolo_v4.data.readers.headers import ImageHeader, read_headers, turn_boxes
from mindyolo_v4.data.records import ImageRecord

# fractions may leave [0, 1] by this much: rounding and unclipped boxes, not pixels
FRACTION_TOLERANCE = 0.01
_OVER_BORDER = 1.0  # pixels by which a box may reach out of its image without being mentioned


@dataclass(frozen=True)
class ListedImage:
    """An image as the annotations name it."""

    path: Path  # absolute
    image_id: int | str
    label_path: str  # file that holds its annotations; "" where there is none
    entry: Place  # what names it in messages: "train.txt:7", "train.json: image 12"
    stated_size: tuple[int, int] | None = None  # width and height in the annotations, pixels
    removal: Edit | None = None  # that takes it out of a list or a COCO file


class RawBox(NamedTuple):
    """One box as it stands in the file, in pixels or, for YOLO, in fractions of the image."""

    image: int  # index into the listed images
    box_xyxy: tuple[float, float, float, float]
    class_id: int
    number: int  # line of its row, or position among the objects or annotations of its file
    line: int = 0  # in its file; 0: not known
    entry: str = ""  # what names it in messages where a line does not: "annotation 12"
    ignore: bool = False
    crowd: bool = False
    area_px: float = math.nan  # nan: not stated


def build_records(
    images: Sequence[ListedImage],
    boxes: Sequence[RawBox],
    check_headers: bool,
    faults: Faults,
    max_megapixels: float = DataConfig.max_megapixels,
    are_fractions: bool = False,
    have_ids: bool = False,
) -> tuple[ImageRecord, ...]:
    """Return one record per image, in order; `faults` learns of every box that was dropped.

    Boxes without area, boxes outside their image and repeated boxes are dropped; boxes that reach
    over the border are clipped.

    Args:
        check_headers: read all headers, not only where the annotations state no size.
        have_ids: COCO's images and boxes have ids. A repeated image would be counted twice; a
            repeated box counts twice on COCO's server, too. A list repeats images on purpose.

    Raises:
        FaultError: a missing or unreadable image, an image that has two ids, a stated size that is
            not the image's, boxes in fractions where pixels belong.
    """
    _report_repeated_images(images, have_ids, faults)
    read = _headers(images, check_headers, max_megapixels, faults)
    images, headers, boxes = _with_headers(images, read, boxes, faults)
    _warn_of_deep(images, headers, faults)
    owners = np.array([box.image for box in boxes], np.int64)
    raw_xyxy = np.array([box.box_xyxy for box in boxes], np.float64).reshape(-1, 4)
    sizes = np.array([(header.width, header.height) for header in headers], np.float64)
    limits = np.tile(sizes.reshape(-1, 2)[owners], 2)
    labels = _Labels(images, boxes, are_fractions, have_ids)
    if not are_fractions:
        _refuse_fractions(raw_xyxy, limits, labels, faults)
    is_turned = _turn_to_decoded(raw_xyxy, owners, images, headers, faults)

    if are_fractions:
        raw_xyxy *= limits
    clipped = np.clip(raw_xyxy, 0, limits).astype(np.float32)

    reasons: dict[Kind, tuple[str, NDArray[np.bool_]]] = {
        "box-without-area": ("no area", (raw_xyxy[:, 2:] <= raw_xyxy[:, :2]).any(axis=1)),
        "box-outside": ("outside the image", (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)),
    }
    repeated = _repeated(boxes, raw_xyxy) if faults.collects or not have_ids else None
    if repeated is not None and not have_ids:
        reasons["repeated-box"] = ("repeats an earlier one", repeated)
    kept = ~np.any([applies for _, applies in reasons.values()], axis=0)
    for index in np.flatnonzero(~kept):
        kind = next(kind for kind, (_, applies) in reasons.items() if applies[index])
        got = "{:g} {:g} {:g} {:g}".format(*raw_xyxy[index])
        problem = f"{reasons[kind][0]}, box dropped (got {got})"
        faults.warn(kind, labels.place(index), problem, labels.edit(index, None))
    if faults.collects:
        _note_clipped(raw_xyxy, limits, kept & ~is_turned[owners], labels, faults)
        for index in np.flatnonzero(repeated & kept) if repeated is not None else ():
            edit = labels.edit(index, None)
            faults.note("repeated-box", labels.place(index), "repeats an earlier one", edit)

    order = np.flatnonzero(kept)
    order = order[np.argsort(owners[order], kind="stable")]
    kept_boxes = [boxes[index] for index in order]
    return _slice_records(images, headers, kept_boxes, clipped[order])


class _Labels(NamedTuple):
    """Where boxes stand in their files."""

    images: Sequence[ListedImage]
    boxes: Sequence[RawBox]
    are_fractions: bool
    have_ids: bool

    def place(self, index: int) -> Place:
        """Return what names a box."""
        box = self.boxes[index]
        return Place(self.images[box.image].label_path, box.line, box.entry)

    def edit(self, index: int, box_xyxy: NDArray[np.float64] | None) -> Edit:
        """Return the edit that removes a box, or gives it other corners."""
        box = self.boxes[index]
        part: Literal["line", "object", "annotations"] = "line" if self.are_fractions else "object"
        value = None if box_xyxy is None else tuple(box_xyxy.tolist())
        path = self.images[box.image].label_path
        return Edit(path, "annotations" if self.have_ids else part, box.number, value)


def _report_repeated_images(images: Sequence[ListedImage], have_ids: bool, faults: Faults) -> None:
    """Refuse images that have two ids; warn once of lines that repeat an image."""
    first_entry: dict[Path, Place] = {}
    repeated = []
    for image in images:
        if image.path not in first_entry:
            first_entry[image.path] = image.entry
            continue
        problem = f"image is listed twice, first at {first_entry[image.path]}"
        if have_ids:
            got = str(image.path)
            faults.refuse("repeated-image", image.entry, problem, got, "each image once")
        repeated.append((image.entry, problem))
    if repeated and not have_ids:
        entry, problem = repeated[0]
        problem += f"; {len(repeated)} repeated lines are kept as they are"
        faults.warn("info-repeated-line", entry, problem)


def _headers(
    images: Sequence[ListedImage], check_headers: bool, max_megapixels: float, faults: Faults
) -> list[ImageHeader | None]:
    wanted = [image for image in images if check_headers or image.stated_size is None]
    paths = [image.path for image in wanted]
    read = iter(read_headers(paths, [image.entry for image in wanted], max_megapixels, faults))
    return [
        next(read)
        if check_headers or image.stated_size is None
        else ImageHeader(*image.stated_size, orientation=1)
        for image in images
    ]


def _with_headers(
    images: Sequence[ListedImage],
    read: Sequence[ImageHeader | None],
    boxes: Sequence[RawBox],
    faults: Faults,
) -> tuple[Sequence[ListedImage], list[ImageHeader], Sequence[RawBox]]:
    """Return the images that have a header, and their boxes; a training has all."""
    headers = [header for header in read if header is not None]
    if len(headers) == len(images):
        return images, headers, boxes
    faults.edits += [
        image.removal
        for image, header in zip(images, read, strict=True)
        if header is None and image.removal is not None
    ]
    kept = [index for index, header in enumerate(read) if header is not None]
    new_index = {old: new for new, old in enumerate(kept)}
    own_boxes = [
        box._replace(image=new_index[box.image]) for box in boxes if box.image in new_index
    ]
    return [images[index] for index in kept], headers, own_boxes


def _warn_of_deep(
    images: Sequence[ListedImage], headers: Sequence[ImageHeader], faults: Faults
) -> None:
    deep = [image.path for image, header in zip(images, headers, strict=True) if header.is_deep]
    if deep:
        problem = "more than 8 bits per channel and are scaled by the range of their pixels"
        faults.warnings.append(f"{len(deep)} images, such as {deep[0]}, have {problem}")


def _refuse_fractions(
    boxes_xyxy: NDArray[np.float64], limits: NDArray[np.float64], labels: _Labels, faults: Faults
) -> None:
    """Refuse boxes (N, 4) all of which lie within 0 to 1, where they have an area.

    Where faults are collected, the boxes are turned, in place, into pixels.
    """
    has_area = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    if not has_area.any() or boxes_xyxy[has_area].max() > 1 + FRACTION_TOLERANCE:
        return
    first = int(has_area.argmax())
    got = "{:g} {:g} {:g} {:g}".format(*boxes_xyxy[first])
    problem = "all boxes are fractions of the image"
    expected = "pixels: multiply by the image's width and height"
    faults.refuse("fractions-for-pixels", labels.place(first), problem, got, expected)
    boxes_xyxy *= limits
    faults.edits += [labels.edit(index, boxes_xyxy[index]) for index in np.flatnonzero(has_area)]


def _turn_to_decoded(
    boxes_xyxy: NDArray[np.float64],
    owners: NDArray[np.int64],
    images: Sequence[ListedImage],
    headers: Sequence[ImageHeader],
    faults: Faults,
) -> NDArray[np.bool_]:
    """Turn, in place, the boxes that were annotated without regard to EXIF; return whose (N,)."""
    is_turned = np.zeros(len(images), bool)
    for index, (image, header) in enumerate(zip(images, headers, strict=True)):
        size = (header.width, header.height)
        if image.stated_size is None or _near(image.stated_size, size):
            continue
        if header.orientation < 5 or not _near(image.stated_size, size[::-1]):
            problem = f"stated size is not that of {image.path}"
            stated = "{} x {}".format(*image.stated_size)
            expected = f"{header.width} x {header.height}"
            edit = _resize(image, size)
            faults.refuse("wrong-size", image.entry, problem, stated, expected, edit)
            continue
        own = owners == index
        boxes_xyxy[own] = turn_boxes(boxes_xyxy[own], header)
        is_turned[index] = True
        problem = f"{image.path.name} was annotated without its EXIF orientation, boxes turned"
        faults.warn("info-boxes-turned", image.entry, problem)
    return is_turned


def _resize(image: ListedImage, size: tuple[int, int]) -> Edit:
    """Return the edit that gives an image its own size, in the COCO or XML file that states it."""
    entry = image.removal.entry if image.removal is not None else 0
    return Edit(image.label_path, "size", entry, size)


def _near(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return abs(first[0] - second[0]) <= 1 and abs(first[1] - second[1]) <= 1


def _note_clipped(
    boxes_xyxy_px: NDArray[np.float64],
    limits: NDArray[np.float64],
    are_kept: NDArray[np.bool_],
    labels: _Labels,
    faults: Faults,
) -> None:
    """Report the boxes (N, 4) that reach over the border of their image (N, 4)."""
    over_px = np.maximum(-boxes_xyxy_px, boxes_xyxy_px - limits).max(axis=1, initial=0)
    for index in np.flatnonzero(are_kept & (over_px > _OVER_BORDER)):
        got = "{:g} {:g} {:g} {:g}".format(*boxes_xyxy_px[index])
        size = "{:g} x {:g}".format(*limits[index, :2])
        problem = f"reaches over the border of the image, clipped (got {got}, image {size})"
        corners = np.clip(boxes_xyxy_px[index], 0, limits[index])
        if labels.are_fractions:
            corners /= limits[index]
        edit = labels.edit(index, corners)
        faults.note("box-over-border", labels.place(index), problem, edit)


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
) -> tuple[ImageRecord, ...]:
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
    return tuple(records)

"""From listed images and raw boxes to clean records; the part that all three formats share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.readers.box_checks import kept_boxes, refuse_fractions
from mindyolo_v4.data.readers.faults import Edit, FaultError, Faults, Location
from mindyolo_v4.data.readers.headers import ImageHeader, read_headers, turn_boxes, warn_of_deep
from mindyolo_v4.data.readers.raw import Labels, ListedImage, RawBox
from mindyolo_v4.data.records import ImageRecord, Records, box_areas_px


def build_records(
    images: Sequence[ListedImage],
    boxes: Sequence[RawBox],
    faults: Faults,
    max_megapixels: float,
    are_fractions: bool = False,
    have_ids: bool = False,
) -> Records:
    """Return one record per image, in order; `faults` learns of every box that was dropped.

    Boxes without area, boxes outside their image and repeated boxes are dropped; boxes that reach
    over the border are clipped.

    Args:
        have_ids: COCO's images and boxes have ids. A repeated image would be counted twice; a
            repeated box counts twice on COCO's server, too. A list repeats images on purpose.

    Raises:
        FaultError: a missing or unreadable image, an image that has two ids, a stated size that is
            not the image's, boxes in fractions where pixels belong.
    """
    _report_repeated_images(images, have_ids, faults)
    paths = [image.path for image in images]
    read = read_headers(paths, [image.entry for image in images], max_megapixels, faults)
    images, headers, boxes = _with_headers(images, read, boxes, faults)
    warn_of_deep([image.path for image in images], headers, faults)
    owners = np.array([box.image for box in boxes], np.int64)
    raw_xyxy = np.array([box.box_xyxy for box in boxes], np.float64).reshape(-1, 4)
    sizes = np.array([(header.width, header.height) for header in headers], np.float64)
    limits = np.tile(sizes.reshape(-1, 2)[owners], 2)
    labels = Labels(images, boxes, limits, are_fractions, have_ids)
    if not are_fractions:
        refuse_fractions(raw_xyxy, labels, faults)
    is_turned = _turn_to_decoded(raw_xyxy, owners, images, headers, faults)

    if are_fractions:
        raw_xyxy *= limits
    clipped = np.clip(raw_xyxy, 0, limits).astype(np.float32)

    kept = kept_boxes(raw_xyxy, clipped, is_turned[owners], labels, faults)
    order = np.flatnonzero(kept)
    order = order[np.argsort(owners[order], kind="stable")]
    own_boxes = [boxes[index] for index in order]
    return _slice_records(images, headers, own_boxes, clipped[order])


def warn_of_unlabelled(
    images: Sequence[ListedImage],
    source: str,
    noun: str,
    expected: str,
    share: float,
    faults: Faults,
) -> None:
    """Warn of images without annotations, if they are more than a share of all.

    Args:
        source: of the images, for messages.
        noun: what they lack, "a label file".
        expected: where that of the first image would lie.

    Raises:
        FaultError: none of the images has annotations.
    """
    absent = [image for image in images if not image.label_path]
    if len(absent) == len(images):
        problem = f"none of its images has {noun}"
        raise FaultError("no-annotations", Location(source), problem, absent[0].path, expected)
    for image in absent:
        problem = f"lacks {noun}, and counts as an image without objects"
        faults.note("info-image-without-annotation", Location(str(image.path)), problem)
    if len(absent) > share * len(images):
        count = f"{len(absent)} of {len(images)} images lack {noun}, such as {absent[0].path}"
        faults.warnings.append(f"{source}: {count}; they count as images without objects")


def _report_repeated_images(images: Sequence[ListedImage], have_ids: bool, faults: Faults) -> None:
    """Refuse images that have two ids; warn once of lines that repeat an image."""
    first_entry: dict[Path, Location] = {}
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
    removal = image.removal
    entry = removal.entry if removal is not None and removal.part == "images" else 0
    return Edit(image.label_path, "size", entry, size)


def _near(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return abs(first[0] - second[0]) <= 1 and abs(first[1] - second[1]) <= 1


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
    areas = np.where(np.isnan(stated_areas), box_areas_px(boxes_xyxy_px), stated_areas)
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

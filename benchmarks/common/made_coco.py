"""A COCO data set of any size: generated annotations, and images that are links to a few files."""

import os
from pathlib import Path

import cv2
import numpy as np

CLASSES = 80
ANNOTATIONS = "annotations/instances_train2017.json"
_IMAGES = "train2017"
_SIZES_WH = ((640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (640, 640), (612, 612))
_FILES = 210  # different image files; a file system allows some ten thousand links to each
_POLYGONS = 1000  # different ones; readers leave them out, but must parse them
_CROWDS = 0.01  # share of the boxes


def write_coco(folder: Path, images: int, boxes: int) -> None:
    """Write a split of so many images and boxes; with 118,287 and 860,000 as large as COCO's."""
    rng = np.random.default_rng(0)
    sizes = np.array(_SIZES_WH)[np.arange(images) % len(_SIZES_WH)]
    _link_images(folder, images, rng)
    # as in COCO, most images have few boxes and some have very many
    weights = rng.exponential(size=images)
    counts = rng.multinomial(boxes, weights / weights.sum())
    owners = np.repeat(np.arange(images), counts)
    sides = np.maximum(np.exp(rng.uniform(-4, 0, (boxes, 2))) * sizes[owners], 2)
    corners = rng.random((boxes, 2)) * (sizes[owners] - sides)
    rows = np.concatenate([corners, sides], axis=1).round(2).tolist()
    classes = rng.integers(1, CLASSES + 1, boxes).tolist()
    is_crowd = (rng.random(boxes) < _CROWDS).tolist()
    polygons = [_polygon(rng) for _ in range(_POLYGONS)]
    target = folder / ANNOTATIONS
    target.parent.mkdir()
    with target.open("w") as file:
        names = ", ".join(f'{{"id": {k}, "name": "class {k}"}}' for k in range(1, CLASSES + 1))
        file.write(f'{{"categories": [{names}],\n"images": [')
        for number, (width, height) in enumerate(sizes.tolist()):
            size = f'"width": {width}, "height": {height}'
            comma = "," if number else ""
            file.write(f'{comma}\n{{"id": {number}, "file_name": "{_name(number)}", {size}}}')
        file.write('],\n"annotations": [')
        for number, (owner, row) in enumerate(zip(owners.tolist(), rows, strict=True)):
            area = round(0.6 * row[2] * row[3], 2)
            shape = '{"counts": [5, 7], "size": [9, 9]}'
            if not is_crowd[number]:
                shape = polygons[number % _POLYGONS]
            comma = "," if number else ""
            file.write(
                f'{comma}\n{{"segmentation": {shape}, "area": {area}, "bbox": {row}, '
                f'"iscrowd": {int(is_crowd[number])}, "image_id": {owner}, '
                f'"category_id": {classes[number]}, "id": {number + 1}}}'
            )
        file.write("]}\n")


def _name(number: int) -> str:
    return f"{number:012}.jpg"


def _polygon(rng: np.random.Generator) -> str:
    """Return a polygon as text; of this many points, so that the file is as large as COCO's."""
    points = rng.uniform(0, 640, 2 * int(rng.integers(8, 40))).round(2)
    return f"[{points.tolist()}]"


def _link_images(folder: Path, images: int, rng: np.random.Generator) -> None:
    sources = folder / "sources"
    sources.mkdir(parents=True)
    target = folder / _IMAGES
    target.mkdir()
    for number in range(min(images, _FILES)):
        width, height = _SIZES_WH[number % len(_SIZES_WH)]
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        cv2.imwrite(str(sources / _name(number)), cv2.resize(coarse, (width, height)))
    for number in range(images):
        os.link(sources / _name(number % _FILES), target / _name(number))

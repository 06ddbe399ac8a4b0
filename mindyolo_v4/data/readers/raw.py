"""What a reader finds in the files, before it is checked: images, boxes, and where they stand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.readers.faults import Edit, Location


@dataclass(frozen=True)
class ListedImage:
    """An image as the annotations name it."""

    path: Path  # absolute
    image_id: int | str
    label_path: str  # file that holds its annotations; "" where there is none
    entry: Location  # what names it in messages: "train.txt:7", "train.json: image 12"
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
    has_points: bool = False  # a YOLO row with more than a box, which other corners would not fit


class Labels(NamedTuple):
    """Where boxes stand in their files."""

    images: Sequence[ListedImage]
    boxes: Sequence[RawBox]
    limits: NDArray[np.float64]  # (N, 4) width and height of the image of each box, twice
    are_fractions: bool
    have_ids: bool

    def location(self, index: int) -> Location:
        """Return what names a box."""
        box = self.boxes[index]
        return Location(self.images[box.image].label_path, box.line, box.entry)

    def edit(self, index: int, box_xyxy: NDArray[np.float64] | None) -> Edit:
        """Return the edit that removes a box, or gives it other corners."""
        box = self.boxes[index]
        part: Literal["line", "object", "annotations"] = "line" if self.are_fractions else "object"
        value = None if box_xyxy is None else tuple(box_xyxy.tolist())
        path = self.images[box.image].label_path
        return Edit(path, "annotations" if self.have_ids else part, box.number, value)

"""What the readers hand on: one record an image, one data set a split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image file and its truths, in pixels of the decoded image (EXIF orientation applied, as cv2.imread does)."""

    path: Path  # absolute
    width: int  # pixels
    height: int  # pixels
    boxes_xyxy_px: NDArray[np.float32]  # (N, 4) clipped to the image, both sides > 0
    class_ids: NDArray[np.int64]  # (N,) index into Dataset.class_names
    ignore: NDArray[np.bool_]  # (N,) crowd or VOC difficult: not trained, ignored in evaluation
    crowd: NDArray[
        np.bool_
    ]  # (N,) COCO iscrowd: COCOeval matches it by intersection over detection area
    areas_px: NDArray[
        np.float64
    ]  # (N,) COCO "area" where the file has it, else width times height of the box
    image_id: int | str  # the file's own (COCO), or the 1-based place in the split (YOLO, VOC)
    label_path: str  # file that holds the annotations, for messages


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split, read and checked."""

    records: tuple[ImageRecord, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[
        int, ...
    ]  # COCO: the file's own ids in class order; YOLO and VOC: class index + 1
    source: str  # annotation file, list or folder, for messages and reports
    warnings: tuple[
        str, ...
    ]  # what was mended in passing (boxes dropped), each with its file, and line where known

    def __len__(self) -> int:
        return len(self.records)

    def summary(self) -> str:
        """Return the line that a log says of the split."""
        boxes = sum(int((~record.ignore).sum()) for record in self.records)
        classes = len(self.class_names)
        return f"{self.source}: {len(self)} images, {boxes} boxes, {classes} classes"

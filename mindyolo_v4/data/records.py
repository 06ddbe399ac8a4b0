"""What the readers return: one record per image, one data set per split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.errors import printable

_LONGEST_WARNING = 900  # characters


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image file and its ground truth, in pixels of the decoded image (EXIF applied)."""

    path: Path  # absolute
    width: int  # pixels
    height: int  # pixels
    boxes_xyxy_px: NDArray[np.float32]  # (N, 4) clipped to the image, both sides > 0
    class_ids: NDArray[np.int64]  # (N,) index into Dataset.class_names
    ignore: NDArray[np.bool_]  # (N,) crowd or VOC difficult: not trained, ignored in evaluation
    # (N,) COCO iscrowd: COCOeval matches it by intersection over detection area
    crowd: NDArray[np.bool_]
    areas_px: NDArray[np.float64]  # (N,) COCO "area" where the file has it, else that of the box
    image_id: int | str  # the file's own (COCO), or the number in the split, from 1 (YOLO, VOC)
    label_path: str  # file that holds the annotations; "" where the image has none


class WarningLines:
    """What a split that was read tells of its warnings."""

    source: str
    warnings: tuple[str, ...]

    def warning_lines(self, limit: int = 10) -> list[str]:
        """Return the first `limit` warnings, and a line that counts the others."""
        lines = [printable(warning, _LONGEST_WARNING) for warning in self.warnings[:limit]]
        if len(self.warnings) > limit:
            more = f"... and {len(self.warnings) - limit} more warnings of"
            lines.append(f"{more} {printable(self.source)}")
        return lines


@dataclass(frozen=True, eq=False)
class Dataset(WarningLines):
    """One split, read and checked."""

    records: tuple[ImageRecord, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # COCO: the file's ids in class order; else class index + 1
    source: str  # annotation file, list or folder, for messages and reports
    warnings: tuple[str, ...]  # what was corrected (boxes dropped), with file and line where known

    def __len__(self) -> int:
        return len(self.records)

    def summary(self) -> str:
        """Return one line for the log; boxes that are not trained do not count."""
        boxes = sum(int((~record.ignore).sum()) for record in self.records)
        images = len(self.records)
        counts = f"{images} images, {boxes} boxes, {len(self.class_names)} classes"
        return f"{printable(self.source)}: {counts}"

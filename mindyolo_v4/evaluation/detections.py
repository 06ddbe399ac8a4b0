"""The detections of an image, and their form as rows that devices exchange."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import ResizeGeometry, area_xyxy
from mindyolo_v4.data.views import View

DETECTION_COLUMNS = 7  # of a detection as a row: image, class, score, box


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects detected in one image, best score first."""

    boxes_xyxy_px: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,) objectness x class probability
    class_ids: NDArray[np.int64]  # (N,)

    @classmethod
    def none(cls) -> "Detections":
        """Return the detections of an image without any."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Detections":
        """Return the detections that an index array or a mask selects."""
        return Detections(self.boxes_xyxy_px[index], self.scores[index], self.class_ids[index])

    def to_original(self, geometry: ResizeGeometry | View) -> "Detections":
        """Move the boxes from input to original pixels, without those outside the image."""
        boxes = geometry.to_original(self.boxes_xyxy_px)
        return Detections(boxes, self.scores, self.class_ids).take(area_xyxy(boxes) > 0)


def detection_rows(image: int, detections: Detections) -> NDArray[np.float32]:
    """Return one image's detections as rows (N, DETECTION_COLUMNS); `image` is below 2^24."""
    number = np.full((len(detections), 1), image, np.float32)
    numbers = np.stack([detections.class_ids, detections.scores], axis=1)
    return np.hstack([number, numbers, detections.boxes_xyxy_px], dtype=np.float32)


def detections_by_image(rows: NDArray[np.float32]) -> Iterator[tuple[int, Detections]]:
    """Yield (image, its detections in the order of their rows), by ascending image number."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    images, starts = np.unique(rows[:, 0], return_index=True)
    parts = np.split(rows, starts[1:])  # one empty part where there are no rows
    for image, part in zip(images, parts, strict=False):
        yield int(image), Detections(part[:, 3:], part[:, 2], part[:, 1].astype(np.int64))

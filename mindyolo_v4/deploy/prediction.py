"""What a network finds in one image, as a record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.images import Image
from mindyolo_v4.evaluation.draw import draw_detections

Named = tuple[str, Image]  # file, or "" for pixels, and image (H, W, 3) uint8 RGB


class Detection(NamedTuple):
    """One object of a detector, or one class of a classifier."""

    class_id: int
    class_name: str
    score: float
    box_xyxy_px: tuple[float, ...] | None  # None: a classifier


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network finds in one image, best score first.

    A classifier names its five best classes and has no boxes. Iteration yields `Detection`s.
    """

    file: str  # "" where the image came as pixels
    image: Image  # (H, W, 3) uint8 RGB
    boxes_xyxy_px: NDArray[np.float32] | None  # (N, 4) in the image's pixels; None: a classifier
    scores: NDArray[np.floating]  # (N,)
    class_ids: NDArray[np.int64]  # (N,)
    class_names: tuple[str, ...]  # (N,)

    @property
    def width(self) -> int:
        """The image's width, pixels."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """The image's height, pixels."""
        return int(self.image.shape[0])

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        for number, name in enumerate(self.class_names):
            box = None
            if self.boxes_xyxy_px is not None:
                box = tuple(round(float(edge), 3) for edge in self.boxes_xyxy_px[number])
            yield Detection(int(self.class_ids[number]), name, float(self.scores[number]), box)

    def of_scores(self, lowest: float) -> "Prediction":
        """Return the prediction without the objects of lower scores."""
        kept = [number for number, score in enumerate(self.scores) if score >= lowest]
        return Prediction(
            self.file,
            self.image,
            None if self.boxes_xyxy_px is None else self.boxes_xyxy_px[kept],
            self.scores[kept],
            self.class_ids[kept],
            tuple(self.class_names[number] for number in kept),
        )

    def draw(self) -> Image:
        """Return a copy of the image with boxes and labels, or with the best class as a label."""
        shown = list(self)
        if self.boxes_xyxy_px is None:
            whole = (0.0, 0.0, float(self.width), float(self.height))
            shown = [one._replace(box_xyxy_px=whole) for one in shown[:1]]
        boxes = np.array([one.box_xyxy_px for one in shown]).reshape(-1, 4)
        ids = np.array([one.class_id for one in shown], np.int64)
        scores = np.array([one.score for one in shown])
        names = {one.class_id: one.class_name for one in shown}
        return draw_detections(self.image, boxes, ids, scores, names)

    def to_dict(self) -> dict[str, Any]:
        """Return what `predictions.json` holds of the image."""
        entries = [
            {"class_id": one.class_id, "class_name": one.class_name, "score": one.score}
            | ({} if one.box_xyxy_px is None else {"box_xyxy_px": list(one.box_xyxy_px)})
            for one in self
        ]
        kind = "top5" if self.boxes_xyxy_px is None else "detections"
        size = {"file": self.file, "width": self.width, "height": self.height}
        return size | {kind: entries}

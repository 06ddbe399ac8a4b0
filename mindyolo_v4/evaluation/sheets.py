"""Several images in one picture: training samples with boxes, ground truth beside prediction."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.errors import printable
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.draw import draw_detections
from mindyolo_v4.evaluation.top_k import best_classes, probabilities

SHOWN_SCORE = 0.25  # lowest score of a detection that is drawn
MOST_CELLS = 16  # images of a batch in one picture

_CELL_PX = 480  # longest side of an image of a batch
_PAIR_PX = 640  # longest side of an image beside its prediction
_CLASS_PX = 320  # the same of a classifier's image
_SHOWN_CLASSES = 3  # the best of a prediction
_GAP_PX = 4
_CAPTION_PX = 22  # height of the strip above an image
_PAPER = 255  # grey level between the images
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Image = NDArray[Any]  # uint8 (H, W, 3) RGB


def batch_sheet(
    images: Sequence[Image],
    boxes_xyxy_px: Sequence[FloatArray],
    class_ids: Sequence[NDArray[np.integer]],
    scores: Sequence[FloatArray] | None,
    class_names: Sequence[str],
) -> Image:
    """Return the first 16 images of a batch with their boxes, in rows of equal length.

    Args:
        boxes_xyxy_px: (N, 4) for each image, in its pixels.
        class_ids: (N,) for each image.
        scores: (N,) for each image; None: the labels have no number.
    """
    count = min(len(images), MOST_CELLS)
    cells = [
        _draw_scaled(
            images[index],
            boxes_xyxy_px[index],
            class_ids[index],
            None if scores is None else scores[index],
            class_names,
            _CELL_PX,
        )
        for index in range(count)
    ]
    return sheet(cells, math.ceil(math.sqrt(count)))


def truth_beside_prediction(
    image: Image,
    record: ImageRecord,
    detections: Detections,
    class_names: Sequence[str],
    side_px: int = _PAIR_PX,
    least_score: float = SHOWN_SCORE,
) -> Image:
    """Return an image twice: with its ground truth, and with detections of high enough a score.

    Args:
        image: of the record's size.
        side_px: longest side of each of the two images.
    """
    shown = detections.take(detections.scores >= least_score)
    truth = _draw_scaled(image, record.boxes_xyxy_px, record.class_ids, None, class_names, side_px)
    prediction = _draw_scaled(
        image, shown.boxes_xyxy_px, shown.class_ids, shown.scores, class_names, side_px
    )
    name = printable(record.path.name, 40)
    left = _captioned(truth, f"{name}: {len(record.class_ids)} in the ground truth")
    right = _captioned(prediction, f"{len(shown)} predicted with a score >= {least_score:g}")
    return sheet([left, right], 2)


def class_beside_prediction(
    image: Image, name: str, class_id: int, logits: FloatArray, class_names: Sequence[str]
) -> Image:
    """Return an image twice: with its class, and with the best classes of its logits (C,)."""
    height, width = image.shape[:2]
    best = best_classes(logits, _SHOWN_CLASSES)
    boxes = np.tile([0.0, 0.0, width, height], (len(best), 1))
    truth = _draw_scaled(image, boxes[:1], np.array([class_id]), None, class_names, _CLASS_PX)
    shares = probabilities(logits)[best]
    prediction = _draw_scaled(image, boxes, best, shares, class_names, _CLASS_PX)
    left = _captioned(truth, f"{printable(name, 20)}: ground truth")
    return sheet([left, _captioned(prediction, "predicted, with probability")], 2)


def sheet(images: Sequence[Image], columns: int) -> Image:
    """Return images row by row in cells as large as the largest of them, on white."""
    rows = -(-len(images) // columns)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    size = (rows * (height + _GAP_PX) - _GAP_PX, columns * (width + _GAP_PX) - _GAP_PX, 3)
    paper = np.full(size, _PAPER, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = row * (height + _GAP_PX)
        left = column * (width + _GAP_PX)
        paper[top : top + image.shape[0], left : left + image.shape[1]] = image
    return paper


def _draw_scaled(
    image: Image,
    boxes_xyxy_px: FloatArray,
    class_ids: NDArray[np.integer],
    scores: FloatArray | None,
    class_names: Sequence[str],
    side_px: int,
) -> Image:
    """Return an image whose longest side is `side_px`, with boxes; labels keep their size."""
    height, width = image.shape[:2]
    scale = side_px / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, size_wh, interpolation=interpolation)
    factors = np.array([size_wh[0] / width, size_wh[1] / height] * 2)
    return draw_detections(scaled, boxes_xyxy_px * factors, class_ids, scores, class_names)


def _captioned(image: Image, text: str) -> Image:
    """Return an image below a strip with a line of text."""
    strip = np.full((_CAPTION_PX, image.shape[1], 3), _PAPER, np.uint8)
    ascii_text = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(strip, ascii_text, (2, _CAPTION_PX - 7), _FONT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])

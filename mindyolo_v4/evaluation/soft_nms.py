"""Soft-NMS: a box that overlaps a better one of its class keeps a lower score.

Bodla et al. 2017, "Soft-NMS: Improving Object Detection With One Line of Code" (arXiv 1704.04503),
section 3. Again and again, the box M of the highest score is kept, and the score s of each other
box b of its class becomes

    soft_linear       s (1 - IoU(M, b))  where IoU(M, b) >= evaluate.iou_thres
    soft_gaussian     s exp(-IoU(M, b)^2 / evaluate.soft_sigma)

A box whose score is not above `evaluate.conf_thres` any more is dropped. The paper uses 0.3 as the
threshold of the linear form, sigma = 0.5, and drops scores below 0.001.
"""

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray, pairwise_iou
from mindyolo_v4.config.evaluate import EvaluateConfig


def soft_suppression(
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    class_ids: NDArray[np.integer],
    settings: EvaluateConfig,
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the indices of the boxes that are kept and their new scores, best first.

    At most `max_det` boxes are kept. Among equal scores the lower index comes first.

    Args:
        boxes_xyxy: corners (N, 4) in any one unit.
        scores, class_ids: (N,).
    """
    classes = np.unique(class_ids).tolist()
    members = {class_id: np.flatnonzero(class_ids == class_id) for class_id in classes}
    remaining = scores.copy()
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(kept) < min(settings.max_det, len(scores)):
        best = int(np.argmax(remaining))
        if remaining[best] <= settings.conf_thres:
            break
        kept.append(best)
        kept_scores.append(remaining[best])

        others = members[int(class_ids[best])]
        overlaps = pairwise_iou(boxes_xyxy[best : best + 1], boxes_xyxy[others])[0]
        remaining[others] *= _factors(overlaps, settings)
        remaining[best] = 0
    return np.array(kept, np.int64), np.array(kept_scores, scores.dtype)


def _factors(overlaps: FloatArray, settings: EvaluateConfig) -> FloatArray:
    """Return what the scores of boxes with these overlaps are multiplied by."""
    if settings.nms == "soft_gaussian":
        return np.exp(-(overlaps**2) / settings.soft_sigma)
    return np.where(overlaps >= settings.iou_thres, 1 - overlaps, 1)

"""Weighted boxes fusion: boxes of one object become their mean, weighted by the scores.

Solovyev, Wang, Gabruseva 2021, "Weighted boxes fusion: Ensembling boxes from different object
detection models" (arXiv 1910.13302), section 3. The boxes of a class are taken in descending score.
Each joins the cluster whose fused box overlaps it most, if that IoU exceeds `evaluate.iou_thres`
(0.55 in the paper), and else starts one. A cluster of T boxes b_i with scores s_i has

    box = sum s_i b_i / sum s_i,    score = sum s_i / T  x  min(T, N) / N

where N is the number of predictors; here, the variants of test-time augmentation. A fused box whose
score is not above `evaluate.conf_thres` is dropped, which the paper leaves to the user.

The authors' package `ensemble-boxes` gives the same numbers (a test holds some). It is not used,
since it needs numba, llvmlite and pandas, all for other functions of it.
"""

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray, pairwise_iou
from mindyolo_v4.config.evaluate import EvaluateConfig


def fuse_boxes(
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    class_ids: NDArray[np.int64],
    settings: EvaluateConfig,
    predictors: int,
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return fused boxes (M, 4), their scores (M,) and classes (M,), best first.

    At most `max_det` are returned. Among equal scores the lower class, then the earlier cluster.

    Args:
        boxes_xyxy: corners (N, 4) in any one unit.
        scores, class_ids: (N,); all scores are positive.
        predictors: N of the formula.
    """
    fused = [np.zeros((0, 4))]
    means = [np.zeros(0)]
    owners = [np.zeros(0, class_ids.dtype)]
    for class_id in np.unique(class_ids):
        chosen = np.flatnonzero(class_ids == class_id)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        boxes, mean, sizes = _clusters(boxes_xyxy[chosen], scores[chosen], settings.iou_thres)
        fused.append(boxes)
        means.append(mean * np.minimum(sizes, predictors) / predictors)
        owners.append(np.full(len(boxes), class_id))

    all_scores = np.concatenate(means)
    best = np.argsort(-all_scores, kind="stable")
    best = best[all_scores[best] > settings.conf_thres][: settings.max_det]
    boxes = np.concatenate(fused)[best].astype(boxes_xyxy.dtype)
    return boxes, all_scores[best].astype(scores.dtype), np.concatenate(owners)[best]


def _clusters(
    boxes: FloatArray, scores: FloatArray, iou_thres: float
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return box (K, 4), mean score (K,) and size (K,) of the clusters of boxes of one class."""
    sums = np.zeros((len(boxes), 4))  # of score x box, per cluster
    score_sums = np.zeros(len(boxes))
    sizes = np.zeros(len(boxes), np.int64)
    fused = np.zeros((len(boxes), 4))
    count = 0
    for box, score in zip(boxes.astype(np.float64), scores.astype(np.float64), strict=True):
        overlaps = pairwise_iou(box[None], fused[:count])[0]
        cluster = int(np.argmax(overlaps)) if count else 0
        if count == 0 or overlaps[cluster] <= iou_thres:
            cluster = count
            count += 1
        sums[cluster] += score * box
        score_sums[cluster] += score
        sizes[cluster] += 1
        fused[cluster] = sums[cluster] / score_sums[cluster]
    return fused[:count], score_sums[:count] / sizes[:count], sizes[:count]

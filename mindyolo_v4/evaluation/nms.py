"""Raw maps -> detections: candidate filter, decode of the candidates, class-wise suppression.

The suppression is greedy here; `soft_nms.py` and `fusion.py` have the other kinds.

The filter compares logits: a candidate needs sigma(o) sigma(c) > t, that is
c > log(t) - log(sigma(o) - t), one threshold per cell. A map of A x C x H x W class logits is
compared once, and sigma is computed for candidates only.
"""

import logging
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorLevel, AnchorSet, decode_boxes, sigmoid
from mindyolo_v4.boxes import FloatArray, area_xyxy, cxcywh_to_xyxy
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.fusion import fuse_boxes
from mindyolo_v4.evaluation.soft_nms import soft_suppression

logger = logging.getLogger(__name__)

IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]

BOX_FIELDS = 5  # x y w h objectness come before the classes
_LOGIT_MARGIN = 1e-3  # logits may miss the threshold by this; the exact filter of scores follows
_FIRST_BOXES = 4096  # suppression starts with these best boxes only
_DIOU_EXPONENT = 0.6  # darknet's greedynms: a constant there, not the cfg's beta_nms


def detect_objects(
    raw_maps: Sequence[FloatArray],
    anchors: AnchorSet,
    settings: EvaluateConfig,
    chosen: Collection[int] | None = None,
) -> Detections:
    """Turn one image's raw maps into detections in input pixels.

    A candidate has objectness > conf_thres and objectness x class > conf_thres (darknet, mindyolo).
    Candidates of equal score are ordered by level, anchor, class, row, column. Predictions with
    non-finite boxes are dropped, and a map with NaN is reported in the log.

    Args:
        raw_maps: one map (A(5 + C), H, W) per level, smallest stride first.
        chosen: classes whose candidates are kept; default: all.

    Raises:
        ValueError: the maps do not fit the anchors.
    """
    if len(raw_maps) != len(anchors.levels):
        raise ValueError(f"{len(raw_maps)} maps for {len(anchors.levels)} anchor levels")

    # The best candidates of all levels.
    splits = [_split_channels(*pair) for pair in zip(raw_maps, anchors.levels, strict=True)]
    per_level = [_level_candidates(split, settings, chosen) for split in splits]
    scores, class_ids, cells = (np.concatenate(arrays) for arrays in zip(*per_level, strict=True))
    level_ids = np.repeat(np.arange(len(splits)), [len(arrays[0]) for arrays in per_level])
    best = _highest(scores, settings.max_candidates)

    # Their boxes, level by level.
    decoded = [
        _decode(splits[k], cells[best & (level_ids == k)], level, raw_maps[k].shape[2])
        for k, level in enumerate(anchors.levels)
    ]
    boxes = np.concatenate(decoded)
    finite = np.isfinite(boxes).all(axis=1)
    boxes = boxes[finite]
    scores = scores[best][finite].astype(np.float32)
    class_ids = class_ids[best][finite].astype(np.int64)

    return suppress(Detections(boxes, scores, class_ids), settings)


def suppress(candidates: Detections, settings: EvaluateConfig, predictors: int = 1) -> Detections:
    """Leave one detection of each object, as `evaluate.nms` says; at most `max_det`, best first.

    Args:
        predictors: how many times the network has seen the image (wbf).
    """
    arrays = (candidates.boxes_xyxy_px, candidates.scores, candidates.class_ids)
    if settings.nms == "wbf":
        return Detections(*fuse_boxes(*arrays, settings, predictors))
    if settings.nms in ("soft_linear", "soft_gaussian"):
        kept, scores = soft_suppression(*arrays, settings)
        return Detections(candidates.boxes_xyxy_px[kept], scores, candidates.class_ids[kept])
    return candidates.take(non_max_suppression(*arrays, settings))


def non_max_suppression(
    boxes_xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, settings: EvaluateConfig
) -> NDArray[np.int64]:
    """Return the indices that greedy class-wise suppression keeps, best first, at most `max_det`.

    Equals the plain greedy rule: in descending score (equal scores: lower index first), a box is
    kept unless a kept box of its class overlaps it by more than `iou_thres`. The overlap is IoU, or
    IoU - (d^2/c^2)^0.6 with d the distance of the centres and c the diagonal of the enclosing box
    (darknet `greedynms`, nms="diou"). One loop in score order over all classes stops at the last
    box that `max_det` admits.

    Args:
        boxes_xyxy: corners (N, 4) in any one unit; the overlap is computed in their precision.
        scores, class_ids: (N,).
    """
    ranked = np.argsort(-scores, kind="stable")
    # A box never changes whether a better one is kept: the first few thousand mostly fill max_det.
    first = ranked[:_FIRST_BOXES]
    kept = _kept_ranks(boxes_xyxy[first], class_ids[first], settings)
    if len(kept) < settings.max_det and len(ranked) > len(first):
        kept = _kept_ranks(boxes_xyxy[ranked], class_ids[ranked], settings)
    return ranked[kept]


def _kept_ranks(
    boxes: FloatArray, class_ids: IntArray, settings: EvaluateConfig
) -> NDArray[np.int64]:
    """Return which of boxes (N, 4), in descending score, are kept."""
    groups = _group_by_class(boxes, class_ids)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    rank = 0
    while rank < len(alive) and len(kept) < settings.max_det:
        # The best box that is not suppressed; it is the first of its group.
        rank += int(np.argmax(alive[rank:]))
        if not alive[rank]:
            break
        kept.append(rank)

        # What remains of its group after it.
        class_id = int(class_ids[rank])
        ranks, members = groups[class_id]
        suppressed = _suppressed(members, settings)
        ranks = ranks[1:]
        members = members[:, 1:]
        if suppressed.any():
            alive[ranks[suppressed]] = False
            ranks = ranks[~suppressed]
            members = members[:, ~suppressed]
        groups[class_id] = ranks, members
        rank += 1
    return np.array(kept, np.int64)


def _group_by_class(
    boxes: FloatArray, class_ids: IntArray
) -> dict[int, tuple[IntArray, FloatArray]]:
    """Return class -> (ascending indices (n,), corners and area (5, n) of these boxes)."""
    order = np.argsort(class_ids, kind="stable")
    members = np.concatenate([boxes, area_xyxy(boxes)[:, None]], axis=1)[order].T
    members = np.ascontiguousarray(members)
    present, starts = np.unique(class_ids[order], return_index=True)
    groups = zip(np.split(order, starts[1:]), np.split(members, starts[1:], axis=1), strict=True)
    return dict(zip(present.tolist(), groups, strict=False))


def _suppressed(members: FloatArray, settings: EvaluateConfig) -> BoolArray:
    """Return which of boxes 1..N-1 of `members` (5, N: corners and area) the first suppresses."""
    first = members[:, 0]
    left, top, right, bottom, areas = members[:, 1:]

    # The intersection; the arrays are reused, because this is the inner loop.
    width = np.minimum(right, first[2])
    width -= np.maximum(left, first[0])
    np.maximum(width, 0, out=width)
    overlap = np.minimum(bottom, first[3])
    overlap -= np.maximum(top, first[1])
    np.maximum(overlap, 0, out=overlap)
    overlap *= width

    # IoU; two boxes without area keep the overlap 0.
    union = first[4] + areas
    union -= overlap
    np.divide(overlap, union, out=overlap, where=union > 0)
    suppressed = overlap > settings.iou_thres

    # The penalty only lowers the overlap, so only the suppressed ones can change.
    if settings.nms == "diou" and suppressed.any():
        penalty = _distance_penalty(first, members[:, 1:][:, suppressed])
        suppressed[suppressed] = overlap[suppressed] - penalty > settings.iou_thres
    return suppressed


def _distance_penalty(first: FloatArray, others: FloatArray) -> FloatArray:
    """Return (d^2/c^2)^0.6 of one box (5,) and others (5, N)."""
    centre_x = (others[0] + others[2] - first[0] - first[2]) / 2
    centre_y = (others[1] + others[3] - first[1] - first[3]) / 2
    width = np.maximum(others[2], first[2]) - np.minimum(others[0], first[0])
    height = np.maximum(others[3], first[3]) - np.minimum(others[1], first[1])
    diagonal = width * width + height * height
    distance = centre_x * centre_x + centre_y * centre_y
    ratio = np.divide(distance, diagonal, out=np.zeros_like(distance), where=diagonal > 0)
    return ratio**_DIOU_EXPONENT


def _split_channels(raw_map: FloatArray, level: AnchorLevel) -> FloatArray:
    """View (A(5 + C), H, W) as (A, 5 + C, H W)."""
    anchors = len(level.anchor_ids)
    channels, rows, columns = raw_map.shape
    if channels % anchors or channels // anchors <= BOX_FIELDS:
        raise ValueError(f"map of {channels} channels is not {anchors} anchors x (5 + classes)")
    return raw_map.reshape(anchors, channels // anchors, rows * columns)


@lru_cache(maxsize=1)
def _report_nan() -> None:
    """Log once that detections are missing where the network gave no number."""
    logger.warning(
        "the network's output is not a number (NaN) at some cells, which have no detections: the "
        "weights do not suit the images or the architecture"
    )


def _level_candidates(
    split: FloatArray, settings: EvaluateConfig, chosen: Collection[int] | None
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return scores, class ids and cells (of A x P) of the candidates in (A, 5 + C, P)."""
    threshold = settings.conf_thres
    if np.isnan(split[:, 4]).any():
        _report_nan()

    # Cells by objectness: roughly on logits, then exactly.
    anchor_ids, positions = np.nonzero(split[:, 4] > _logit(threshold) - _LOGIT_MARGIN)
    objectness = sigmoid(split[anchor_ids, 4, positions].astype(np.float64))
    exact = objectness > threshold
    anchor_ids = anchor_ids[exact]
    positions = positions[exact]
    objectness = objectness[exact]

    # Their classes: every one that may pass, or the best.
    if settings.multi_label:
        logits = split[:, BOX_FIELDS:]
        index, class_ids = _class_pairs(logits, anchor_ids, positions, objectness, threshold)
        anchor_ids = anchor_ids[index]
        positions = positions[index]
        objectness = objectness[index]
    else:
        class_ids = np.argmax(split[anchor_ids, BOX_FIELDS:, positions], axis=1)

    # The exact filter of scores.
    class_logits = split[anchor_ids, BOX_FIELDS + class_ids, positions].astype(np.float64)
    scores = objectness * sigmoid(class_logits)
    passed = scores > threshold
    if chosen is not None:
        passed &= np.isin(class_ids, list(chosen))
    cells = anchor_ids * split.shape[2] + positions
    return scores[passed], class_ids[passed], cells[passed]


def _class_pairs(
    class_logits: FloatArray,
    anchor_ids: IntArray,
    positions: IntArray,
    objectness: FloatArray,
    threshold: float,
) -> tuple[IntArray, IntArray]:
    """Pair each cell with its classes whose logit may be high enough.

    Args:
        class_logits: (A, C, P).
        anchor_ids, positions, objectness: the N cells whose objectness passed.

    Returns:
        index into the N cells, class id; (M,) each.
    """
    anchors, classes, cells = class_logits.shape

    # The lowest class logit that passes, per cell: infinite where the objectness did not.
    with np.errstate(divide="ignore"):  # threshold 0: every class passes
        lowest = np.log(threshold) - np.log(objectness - threshold) - _LOGIT_MARGIN
    lowest_map = np.full((anchors, 1, cells), np.inf, class_logits.dtype)
    lowest_map[anchor_ids, 0, positions] = lowest

    # Flat indices are (anchor x C + class) x P + position.
    rows, passed = np.divmod(np.flatnonzero(class_logits > lowest_map), cells)
    passed_anchors, class_ids = np.divmod(rows, classes)

    # From anchor and position back to the index among the N cells.
    index_map = np.zeros((anchors, cells), np.int64)
    index_map[anchor_ids, positions] = np.arange(len(positions))
    return index_map[passed_anchors, passed], class_ids


def _decode(split: FloatArray, cells: IntArray, level: AnchorLevel, width: int) -> FloatArray:
    """Decode cells of one level (A, 5 + C, P) of rows of `width` to corners (N, 4) in pixels."""
    anchor_ids, positions = np.divmod(cells, split.shape[2])
    logits = split[anchor_ids, :4, positions]
    rows, columns = np.divmod(positions, width)
    sizes = np.array(level.anchors_wh_px, split.dtype)[anchor_ids]
    return cxcywh_to_xyxy(decode_boxes(logits, columns, rows, sizes, level))


def _logit(probability: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))


def _highest(scores: FloatArray, count: int) -> BoolArray:
    """Select the `count` highest scores; of equal ones at the limit those that come first."""
    if len(scores) <= count:
        return np.ones(len(scores), bool)
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen = scores > limit
    ties = np.flatnonzero(scores == limit)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen

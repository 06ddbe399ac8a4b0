"""From raw maps to detections: candidate filter, decode of the survivors, class-wise non-maximum suppression.

Filtering happens on logits: a candidate needs sigma(o) sigma(c) > t, that is c > log(t) - log(sigma(o) - t), one
threshold a cell. So a map of A x C x H x W class logits is compared once, and sigma is taken of survivors alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorLevel, AnchorSet, decode_boxes, sigmoid
from mindyolo_v4.boxes import FloatArray, ResizeGeometry, area_xyxy, cxcywh_to_xyxy
from mindyolo_v4.config.evaluate import EvaluateConfig

IntArray = NDArray[np.integer]

BOX_FIELDS = 5  # x y w h objectness come before the classes
DETECTION_COLUMNS = 7  # of a detection as a row: image, class, score, box
_LOGIT_MARGIN = 1e-3  # the comparison of logits is this generous; the exact one of scores follows
_FIRST_LOOK = 4096  # boxes that are looked at before all of them are
_DIOU_EXPONENT = 0.6  # darknet's greedynms: a constant there, not the cfg's beta_nms


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects found in one image, best score first."""

    boxes_xyxy_px: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,) objectness x class probability
    class_ids: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.scores)

    def to_original(self, geometry: ResizeGeometry) -> "Detections":
        """Move the boxes from input to original pixels; those that lie outside the image are left out."""
        boxes = geometry.to_original(self.boxes_xyxy_px)
        inside = area_xyxy(boxes) > 0
        return Detections(boxes[inside], self.scores[inside], self.class_ids[inside])


def detection_rows(image: int, found: Detections) -> NDArray[np.float32]:
    """Return the detections of image number `image` (below 2^24) as rows (N, DETECTION_COLUMNS)."""
    named = np.full((len(found), 1), image, np.float32)
    return np.hstack(
        [named, found.class_ids[:, None], found.scores[:, None], found.boxes_xyxy_px],
        dtype=np.float32,
    )


def detections_by_image(rows: NDArray[np.float32]) -> Iterator[tuple[int, Detections]]:
    """Yield (image number, its detections in the order of their rows), by ascending number."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    images, starts = np.unique(rows[:, 0], return_index=True)
    for image, own in zip(
        images, np.split(rows, starts[1:]), strict=False
    ):  # no rows make one empty part
        yield int(image), Detections(own[:, 3:], own[:, 2], own[:, 1].astype(np.int64))


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Predictions of one level that passed the filter; `places` index its (A, H, W) cells, flattened."""

    scores: NDArray[np.float64]  # (N,)
    class_ids: IntArray  # (N,)
    places: IntArray  # (N,)

    def take(self, selection: NDArray[np.bool_]) -> "_Candidates":
        return _Candidates(
            self.scores[selection], self.class_ids[selection], self.places[selection]
        )


def detect_objects(
    raw_maps: Sequence[FloatArray], anchors: AnchorSet, settings: EvaluateConfig
) -> Detections:
    """Turn one image's raw maps into detections in input pixels.

    A candidate has objectness > conf_thres and objectness x class > conf_thres (darknet, mindyolo); candidates are
    ordered by level, anchor, class, row, column where scores are equal. Predictions with non-finite boxes are dropped.

    Args:
        raw_maps: one map (A*(5+C), H, W) a level, smallest stride first.

    Raises:
        ValueError: the maps do not fit the anchors.
    """
    if len(raw_maps) != len(anchors.levels):
        raise ValueError(f"{len(raw_maps)} maps for {len(anchors.levels)} anchor levels")
    found = [
        _level_candidates(_split_channels(raw_map, level), settings)
        for raw_map, level in zip(raw_maps, anchors.levels, strict=True)
    ]
    chosen = _best(np.concatenate([one.scores for one in found]), settings.max_candidates)
    ends = np.cumsum([len(one.scores) for one in found])
    found = [one.take(part) for one, part in zip(found, np.split(chosen, ends[:-1]), strict=True)]
    boxes = np.concatenate(
        [
            _decode(_split_channels(raw_map, level), one.places, level, raw_map.shape[2])
            for raw_map, level, one in zip(raw_maps, anchors.levels, found, strict=True)
        ]
    )
    scores = np.concatenate([one.scores for one in found]).astype(np.float32)
    class_ids = np.concatenate([one.class_ids for one in found]).astype(np.int64)
    finite = np.isfinite(boxes).all(axis=1)
    if not finite.all():
        boxes, scores, class_ids = boxes[finite], scores[finite], class_ids[finite]
    kept = non_max_suppression(boxes, scores, class_ids, settings)
    return Detections(boxes[kept], scores[kept], class_ids[kept])


def non_max_suppression(
    boxes_xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, settings: EvaluateConfig
) -> NDArray[np.int64]:
    """Return the indices that greedy class-wise suppression keeps, best score first, at most `max_det`.

    Equals the plain greedy rule: by descending score (equal scores: lower index first), a box is kept unless a kept
    box of its class overlaps it by more than `iou_thres`; overlap is IoU, or IoU - (d^2/c^2)^0.6 with d the distance
    of the centres and c the diagonal of the enclosing box (darknet `greedynms`, nms="diou").
    All classes are walked together in score order, so the walk ends with the last box that `max_det` admits.

    Args:
        boxes_xyxy: corners (N, 4) in any one unit; the overlap is computed in their precision.
        scores, class_ids: (N,).
    """
    ranked = np.argsort(-scores, kind="stable")
    # Lower boxes never change the fate of higher ones: mostly the best few thousand fill max_det.
    kept = _walk(boxes_xyxy[ranked[:_FIRST_LOOK]], class_ids[ranked[:_FIRST_LOOK]], settings)
    if len(kept) < settings.max_det and len(ranked) > _FIRST_LOOK:
        kept = _walk(boxes_xyxy[ranked], class_ids[ranked], settings)
    return ranked[kept]


def _walk(
    ranked_boxes: FloatArray, ranked_classes: IntArray, settings: EvaluateConfig
) -> NDArray[np.int64]:
    """Return the kept ranks of boxes (N, 4) in descending score."""
    waiting = _group_by_class(ranked_boxes, ranked_classes)
    alive = np.ones(len(ranked_boxes), bool)
    kept: list[int] = []
    rank = 0
    while rank < len(alive) and len(kept) < settings.max_det:
        rank += int(np.argmax(alive[rank:]))
        if not alive[rank]:
            break
        kept.append(rank)
        class_id = int(ranked_classes[rank])
        group, members = waiting[class_id]  # the first of them is the box just kept
        hit = _suppressed(members, settings)
        group, members = group[1:], members[:, 1:]
        if hit.any():
            alive[group[hit]] = False
            group, members = group[~hit], members[:, ~hit]
        waiting[class_id] = group, members
        rank += 1
    return np.array(kept, np.int64)


def _group_by_class(
    ranked_boxes: FloatArray, ranked_classes: IntArray
) -> dict[int, tuple[IntArray, FloatArray]]:
    """Return class -> (ranks (n,), ascending; corners and area (5, n) of those boxes)."""
    order = np.argsort(ranked_classes, kind="stable")
    members = np.concatenate([ranked_boxes, area_xyxy(ranked_boxes)[:, None]], axis=1)[order].T
    members = np.ascontiguousarray(members)
    class_ids, starts = np.unique(ranked_classes[order], return_index=True)
    groups = zip(np.split(order, starts[1:]), np.split(members, starts[1:], axis=1), strict=True)
    return dict(zip(class_ids.tolist(), groups, strict=False))


def _suppressed(members: FloatArray, settings: EvaluateConfig) -> NDArray[np.bool_]:
    """Say which of boxes 1..N-1 of `members` (5, N: corners and area) the first one suppresses."""
    first, (left, top, right, bottom, areas) = members[:, 0], members[:, 1:]
    width = np.minimum(right, first[2])
    width -= np.maximum(left, first[0])
    np.maximum(width, 0, out=width)
    overlap = np.minimum(bottom, first[3])
    overlap -= np.maximum(top, first[1])
    np.maximum(overlap, 0, out=overlap)
    overlap *= width
    union = first[4] + areas
    union -= overlap
    np.divide(overlap, union, out=overlap, where=union > 0)  # without area the overlap is 0 already
    hit = overlap > settings.iou_thres
    if (
        settings.nms == "diou" and hit.any()
    ):  # the penalty only lowers the overlap: look at the hits alone
        hit[hit] = (
            overlap[hit] - _distance_penalty(first, members[:, 1:][:, hit]) > settings.iou_thres
        )
    return hit


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
    """View (A*(5+C), H, W) as (A, 5+C, H*W)."""
    count = len(level.anchor_ids)
    channels, rows, columns = raw_map.shape
    if channels % count or channels // count <= BOX_FIELDS:
        raise ValueError(f"map of {channels} channels is not {count} anchors x (5 + classes)")
    return raw_map.reshape(count, channels // count, rows * columns)


def _level_candidates(split: FloatArray, settings: EvaluateConfig) -> _Candidates:
    """Filter one level (A, 5+C, P)."""
    threshold = settings.conf_thres
    anchor_ids, positions = np.nonzero(split[:, 4] > _logit(threshold) - _LOGIT_MARGIN)
    objectness = sigmoid(split[anchor_ids, 4, positions].astype(np.float64))
    exact = objectness > threshold
    anchor_ids, positions, objectness = anchor_ids[exact], positions[exact], objectness[exact]
    if settings.multi_label:
        owner, class_ids = _class_pairs(
            split[:, BOX_FIELDS:], anchor_ids, positions, objectness, threshold
        )
        anchor_ids, positions, objectness = anchor_ids[owner], positions[owner], objectness[owner]
    else:
        class_ids = np.argmax(split[anchor_ids, BOX_FIELDS:, positions], axis=1)
    class_logits = split[anchor_ids, BOX_FIELDS + class_ids, positions].astype(np.float64)
    scores = objectness * sigmoid(class_logits)
    return _Candidates(scores, class_ids, anchor_ids * split.shape[2] + positions).take(
        scores > threshold
    )


def _class_pairs(
    class_logits: FloatArray,
    anchor_ids: IntArray,
    positions: IntArray,
    objectness: FloatArray,
    threshold: float,
) -> tuple[IntArray, IntArray]:
    """Pair each surviving cell with its classes of sufficient logit, generously.

    Args:
        class_logits: (A, C, P).
        anchor_ids, positions, objectness: the N cells whose objectness passed.

    Returns:
        index into the N cells, class id; (M,) each.
    """
    anchors, classes, cells = class_logits.shape
    with np.errstate(divide="ignore"):  # threshold 0: every class passes
        floor = np.log(threshold) - np.log(objectness - threshold) - _LOGIT_MARGIN
    floor_map = np.full((anchors, 1, cells), np.inf, class_logits.dtype)
    floor_map[anchor_ids, 0, positions] = floor
    cell_index = np.zeros((anchors, cells), np.int64)
    cell_index[anchor_ids, positions] = np.arange(len(positions))
    row, passed = np.divmod(np.flatnonzero(class_logits > floor_map), cells)
    anchor, class_ids = np.divmod(row, classes)
    return cell_index[anchor, passed], class_ids


def _decode(split: FloatArray, places: IntArray, level: AnchorLevel, columns: int) -> FloatArray:
    """Decode the chosen cells of one level (A, 5+C, P), rows of `columns` cells, to corners (N, 4) in input pixels."""
    anchor_ids, positions = np.divmod(places, split.shape[2])
    logits = split[anchor_ids, :4, positions]
    rows, across = np.divmod(positions, columns)
    sizes = np.array(level.anchors_wh_px, split.dtype)[anchor_ids]
    return cxcywh_to_xyxy(decode_boxes(logits, across, rows, sizes, level))


def _logit(probability: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))


def _best(scores: FloatArray, count: int) -> NDArray[np.bool_]:
    """Select the `count` highest scores; of equal ones at the limit those that come first."""
    if len(scores) <= count:
        return np.ones(len(scores), bool)
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen = scores > limit
    ties = np.flatnonzero(scores == limit)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen

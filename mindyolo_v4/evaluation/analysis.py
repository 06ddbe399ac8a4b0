"""What a detector gets wrong on a split, at IoU 0.5, by hotcoco (extra `analysis`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator, hotcoco_evaluation
from mindyolo_v4.evaluation.confidence import (
    IOU,
    ConfidenceCurves,
    Matches,
    best_threshold,
    confidence_curves,
    matches_of,
)

MOST_CASES = 10  # worst images, and most suspicious labels
_BACKGROUND_IOU = 0.1  # TIDE: a detection that overlaps less lies on background

# TIDE's kinds of errors: hotcoco's name -> ours. Bolya et al. 2020, "TIDE: A General Toolbox for
# Identifying Object Detection Errors" (arXiv 2008.08115), section 2.2.
_TIDE_KINDS = {
    "Cls": "class",
    "Loc": "location",
    "Both": "class and location",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
_LABEL_KINDS: dict[str, Literal["wrong class", "missing box"]] = {
    "wrong_label": "wrong class",
    "missing_annotation": "missing box",
}


@dataclass(frozen=True)
class TideError:
    """How often a kind of error occurs, and how much AP50 rises if it is corrected."""

    kind: str
    count: int
    lost_ap50: float


@dataclass(frozen=True)
class ImageErrors:
    """The errors of one image at a confidence threshold."""

    record_id: int  # index into Dataset.records
    f1: float
    hits: int
    wrong: int  # detections that are not hits
    missed: int  # ground-truth boxes without a hit


@dataclass(frozen=True)
class SuspiciousLabel:
    """A detection of high score that contradicts the ground truth."""

    kind: Literal["wrong class", "missing box"]
    record_id: int  # index into Dataset.records
    result_id: int  # index into CocoEvaluator.predictions()
    labelled_as: int | None  # class id of the ground-truth box under the detection
    iou: float  # with that box


@dataclass(frozen=True, eq=False)
class Analysis:
    """The errors of a detector on a split."""

    matches: Matches
    curves: ConfidenceCurves
    threshold: float  # with the best mean F1
    # (C + 1, C + 1) counts at that threshold: row = class of the ground truth, column = class of
    # the detection, the last of each = background.
    confusion: NDArray[np.int64]
    tide: tuple[TideError, ...]
    worst: tuple[ImageErrors, ...]
    suspicious: tuple[SuspiciousLabel, ...]


def analyse(evaluator: CocoEvaluator, evaluation: Any, truths: NDArray[np.int64]) -> Analysis:
    """Find the errors.

    Args:
        evaluation: hotcoco's result of `evaluator.evaluate`.
        truths: ground-truth boxes (C,) of each class, without ignored ones; at least one.
    """
    dataset = evaluator.dataset
    status = evaluation.image_diagnostics(iou_thr=IOU)["dt_status"]
    matches = matches_of(dataset, evaluator.predictions(), status)
    curves = confidence_curves(matches, truths)
    threshold = best_threshold(curves.mean_f1)
    shown = matches.above(threshold)
    candidates = evaluation.image_diagnostics(iou_thr=IOU, score_thr=threshold)["label_errors"]
    return Analysis(
        matches,
        curves,
        threshold,
        confusion_matrix(evaluator, shown),
        tide_errors(evaluation),
        worst_images(dataset, shown),
        suspicious_labels(evaluator, candidates),
    )


def confusion_matrix(evaluator: CocoEvaluator, matches: Matches) -> NDArray[np.int64]:
    """Return which class was detected where which class is: `Analysis.confusion`.

    In the order of their scores, detections take the box of highest IoU, of any class, that is not
    yet taken, if the IoU is at least 0.5. Ignored boxes are in no row.
    """
    truth, results = evaluator.with_plain_ids()
    counted = [results[index] for index in matches.result_ids.tolist()]
    evaluation = hotcoco_evaluation(truth, counted)
    table = evaluation.confusion_matrix(iou_thr=IOU, max_det=max(len(counted), 1))["matrix"]
    order = [*evaluator.category_order(), len(table) - 1]
    return np.asarray(table, np.int64)[np.ix_(order, order)]


def tide_errors(evaluation: Any) -> tuple[TideError, ...]:
    """Return TIDE's six kinds of errors."""
    tide = evaluation.tide_errors(pos_thr=IOU, bg_thr=_BACKGROUND_IOU)
    return tuple(
        TideError(kind, int(tide["counts"][name]), float(tide["delta_ap"][name]))
        for name, kind in _TIDE_KINDS.items()
    )


def worst_images(dataset: Dataset, matches: Matches) -> tuple[ImageErrors, ...]:
    """Return the ten images of lowest F1; of equal ones, those with more errors come first."""
    records = len(dataset)
    hits = np.bincount(matches.record_ids[matches.hits], minlength=records)
    wrong = np.bincount(matches.record_ids[~matches.hits], minlength=records)
    truths = dataset.records.objects_per_image()
    errors = wrong + truths - hits
    f1 = 2 * hits / np.maximum(2 * hits + errors, 1)

    order = np.lexsort((-errors, f1))
    order = order[errors[order] > 0][:MOST_CASES]
    return tuple(
        ImageErrors(k, float(f1[k]), int(hits[k]), int(wrong[k]), int(truths[k] - hits[k]))
        for k in order.tolist()
    )


def suspicious_labels(
    evaluator: CocoEvaluator, candidates: Sequence[dict[str, Any]]
) -> tuple[SuspiciousLabel, ...]:
    """Return the ten candidates of highest score.

    Args:
        candidates: the `label_errors` of hotcoco's diagnostics.
    """
    dataset = evaluator.dataset
    records = {number: index for index, number in enumerate(dataset.records.image_ids())}
    label_ids = np.concatenate([record.class_ids for record in dataset.records])
    predictions = evaluator.predictions()

    best = sorted(candidates, key=lambda one: (-one["dt_score"], one["dt_id"]))[:MOST_CASES]
    labels = []
    for one in best:
        result_id = one["dt_id"] - 1
        label = None if one["gt_id"] is None else int(label_ids[one["gt_id"] - 1])
        record_id = records[predictions[result_id]["image_id"]]
        kind = _LABEL_KINDS[one["type"]]
        labels.append(SuspiciousLabel(kind, record_id, result_id, label, float(one["iou"])))
    return tuple(labels)

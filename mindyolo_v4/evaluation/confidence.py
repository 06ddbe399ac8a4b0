"""F1 over the confidence threshold, at IoU 0.5.

At a threshold c, the detections of a score above c count, as in predict.py. A detection is a hit if
COCO's evaluation matches it with a box of its class at an IoU of 0.5 or more; detections that are
matched with ignored boxes are left out. For each class

    precision(c) = hits / detections,    recall(c) = hits / ground truth,
    F1(c) = 2 hits / (detections + ground truth).

The F1 of all classes is the mean over those that have ground truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.detections import Detections

IOU = 0.5
THRESHOLDS = np.arange(1000) / 1000
_WITHOUT_HITS = 0.25  # the threshold where no detection is right: that of predict.py

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of a split that count."""

    result_ids: IntArray  # (N,) index into `CocoEvaluator.predictions()`
    record_ids: IntArray  # (N,) index into `Dataset.records`
    detections: Detections  # N, in no order
    hits: NDArray[np.bool_]  # (N,)

    def above(self, threshold: float) -> "Matches":
        """Return the detections of a score above the threshold."""
        index = np.flatnonzero(self.detections.scores > threshold)
        ids = (self.result_ids[index], self.record_ids[index])
        return Matches(*ids, self.detections.take(index), self.hits[index])

    def of_record(self, record_id: int) -> Detections:
        """Return the detections of an image."""
        return self.detections.take(self.record_ids == record_id)

    def of_result(self, result_id: int) -> Detections:
        """Return one detection."""
        return self.detections.take(self.result_ids == result_id)


def matches_of(
    dataset: Dataset, predictions: Sequence[dict[str, Any]], status: dict[int, str]
) -> Matches:
    """Return the detections that hotcoco has called right or wrong.

    Args:
        predictions: the result of `CocoEvaluator.predictions`.
        status: number of a prediction, from 1 -> "tp" or "fp"; one that is missing is ignored.
    """
    records = {number: index for index, number in enumerate(dataset.records.image_ids())}
    classes = {category_id: index for index, category_id in enumerate(dataset.category_ids)}
    numbers = sorted(status)
    counted = [predictions[number - 1] for number in numbers]
    boxes = np.array([result["bbox"] for result in counted], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    detections = Detections(
        boxes,
        np.array([result["score"] for result in counted], np.float64),
        np.array([classes[result["category_id"]] for result in counted], np.int64),
    )
    return Matches(
        np.array(numbers, np.int64) - 1,
        np.array([records[result["image_id"]] for result in counted], np.int64),
        detections,
        np.array([status[number] == "tp" for number in numbers], bool),
    )


@dataclass(frozen=True, eq=False)
class ConfidenceCurves:
    """What counts of each class at each of the T thresholds `THRESHOLDS`."""

    hits: IntArray  # (C, T)
    detections: IntArray  # (C, T)
    truths: IntArray  # (C,)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Return F1 (C, T); NaN for a class without ground truth."""
        f1 = 2 * self.hits / np.maximum(self.detections + self.truths[:, None], 1)
        return np.where(self.truths[:, None] > 0, f1, np.nan)

    @property
    def mean_f1(self) -> NDArray[np.float64]:
        """Return the mean F1 (T,) of the classes that have ground truth; there is one at least."""
        return np.asarray(self.f1[self.truths > 0].mean(axis=0))

    def at(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return precision and recall (C,) at one of the thresholds; NaN where undefined."""
        index = int(np.flatnonzero(threshold == THRESHOLDS)[0])
        hits = self.hits[:, index]
        return _ratio(hits, self.detections[:, index]), _ratio(hits, self.truths)


def confidence_curves(matches: Matches, truths: IntArray) -> ConfidenceCurves:
    """Count hits and detections at each threshold.

    Args:
        truths: ground-truth boxes (C,) of each class, without ignored ones.
    """
    hits = np.zeros((len(truths), len(THRESHOLDS)), np.int64)
    detections = np.zeros_like(hits)
    for class_id in range(len(truths)):
        own = matches.detections.class_ids == class_id
        scores = matches.detections.scores
        detections[class_id] = _count_above(scores[own])
        hits[class_id] = _count_above(scores[own & matches.hits])
    return ConfidenceCurves(hits, detections, truths)


def best_threshold(f1: NDArray[np.float64]) -> float:
    """Return the threshold of the highest F1 (T,): the middle one of several, 0.25 without hits."""
    if f1.max() == 0:
        return _WITHOUT_HITS
    best = np.flatnonzero(f1 == f1.max())
    return float(THRESHOLDS[best[len(best) // 2]])


def _count_above(scores: NDArray[np.floating]) -> IntArray:
    """Return how many scores are above each threshold: (T,)."""
    return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="right")


def _ratio(part: IntArray, whole: IntArray) -> NDArray[np.float64]:
    """Return part / whole, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)

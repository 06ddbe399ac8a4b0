"""The tables of an analysis as CSV text."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.analysis import Analysis
from mindyolo_v4.evaluation.confidence import best_threshold

_ALL_CLASSES = "all"
Cell = str | int | float | None


def per_class_table(metrics: dict[str, Any], analysis: Analysis | None) -> str:
    """Return a row per class, and one of all classes.

    Precision and recall are those at the row's own `conf_thres`, where its F1 is highest. A value
    that is undefined is an empty cell.

    Args:
        metrics: the result of `CocoEvaluator.metrics`.
        analysis: None where hotcoco is not installed: the last four columns are empty.
    """
    header = ("class_id", "class_name", "truths", "AP", "AP50")
    rows = metrics["per_class"]
    table: list[list[Cell]] = [[row[name] for name in header] for row in rows]
    truths = sum(row["truths"] for row in rows)
    table.append([None, _ALL_CLASSES, truths, metrics["AP"], metrics["AP50"]])
    best: list[list[Cell]] = [[None] * 4 for _ in table]
    if analysis is not None:
        best = _best(analysis)
    cells = (row + own for row, own in zip(table, best, strict=True))
    return _csv((*header, "precision", "recall", "F1", "conf_thres"), cells)


def confusion_table(analysis: Analysis, class_names: Sequence[str]) -> str:
    """Return the confusion matrix, a row per class of the ground truth and one of background."""
    names = [*class_names, "background"]
    rows: list[list[Cell]] = [
        [name, *counts] for name, counts in zip(names, analysis.confusion.tolist(), strict=True)
    ]
    return _csv(("ground truth", *names), rows)


def tide_table(analysis: Analysis) -> str:
    """Return the kinds of errors."""
    rows: list[list[Cell]] = [[error.kind, error.count, error.lost_ap50] for error in analysis.tide]
    return _csv(("error", "count", "lost_AP50"), rows)


def worst_images_table(analysis: Analysis, dataset: Dataset) -> str:
    """Return the worst images, the worst first."""
    header = ("picture", "image", "F1", "hits", "wrong", "missed")
    rows: list[list[Cell]] = []
    for rank, one in enumerate(analysis.worst, 1):
        path = str(dataset.records[one.record_id].path)
        rows.append([f"worst_{rank:02d}.jpg", path, one.f1, one.hits, one.wrong, one.missed])
    return _csv(header, rows)


def suspicious_labels_table(
    analysis: Analysis, dataset: Dataset, predictions: Sequence[dict[str, Any]]
) -> str:
    """Return the suspicious labels, the most suspicious first.

    Args:
        predictions: the result of `CocoEvaluator.predictions`.
    """
    header = ("picture", "image", "label_file", "problem", "labelled", "predicted")
    class_ids = {category_id: index for index, category_id in enumerate(dataset.category_ids)}
    rows: list[list[Cell]] = []
    for rank, one in enumerate(analysis.suspicious, 1):
        record = dataset.records[one.record_id]
        result = predictions[one.result_id]
        labelled = None if one.labelled_as is None else dataset.class_names[one.labelled_as]
        predicted = dataset.class_names[class_ids[result["category_id"]]]
        row: list[Cell] = [f"suspicious_{rank:02d}.jpg", str(record.path), record.label_path]
        row += [one.kind, labelled, predicted, result["score"], one.iou, *result["bbox"]]
        rows.append(row)
    return _csv((*header, "score", "IoU", "left", "top", "width", "height"), rows)


def _best(analysis: Analysis) -> list[list[Cell]]:
    """Return precision, recall, F1 and threshold of each class, and of all classes."""
    curves = analysis.curves
    f1 = curves.f1
    rows: list[list[Cell]] = []
    for class_id, truths in enumerate(curves.truths.tolist()):
        if truths == 0:
            rows.append([None] * 4)
            continue
        threshold = best_threshold(f1[class_id])
        precision, recall = curves.at(threshold)
        rows.append(
            [_defined(precision[class_id]), recall[class_id], f1[class_id].max(), threshold]
        )
    precision, recall = curves.at(analysis.threshold)
    occurs = curves.truths > 0
    means = [np.nan_to_num(precision[occurs]).mean(), recall[occurs].mean(), curves.mean_f1.max()]
    return [*rows, [*(float(mean) for mean in means), analysis.threshold]]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _csv(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table; numbers have up to 6 decimals, None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()

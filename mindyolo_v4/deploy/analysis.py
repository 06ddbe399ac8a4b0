"""The scores of detections, whatever back-end has made them, and the analysis of their errors."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.deploy.outputs import write_jpeg
from mindyolo_v4.deploy.pictures import read_or_grey
from mindyolo_v4.evaluation import analysis_plots, analysis_tables
from mindyolo_v4.evaluation.analysis import MOST_CASES, Analysis, analyse
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator, hotcoco_version
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.report import format_metrics_table
from mindyolo_v4.evaluation.sheets import truth_beside_prediction
from mindyolo_v4.runtime.files import whole_file, write_text
from mindyolo_v4.runtime.scoring_run import Scores

logger = logging.getLogger(__name__)


def detection_scores(evaluator: CocoEvaluator, data: DataConfig, for_test: bool = True) -> Scores:
    """Return the metrics of all detections; with `for_test` COCO's files and the analysis too."""
    evaluation = evaluator.evaluate()
    metrics = evaluator.metrics(evaluation)
    table = format_metrics_table(metrics)
    if not for_test:
        return Scores(metrics, table, {})
    files: dict[str, Any] = {"predictions.json": evaluator.predictions()}
    # With classes that were chosen or joined, the ids are not those of the annotation file.
    if data.format != "coco" or data.single_cls or data.classes is not None:
        files["ground_truth.json"] = evaluator.ground_truth()
    draw = partial(write_analysis, evaluator, evaluation, metrics, data)
    return Scores(metrics, table, files, draw)


def write_analysis(
    evaluator: CocoEvaluator,
    evaluation: Any,
    metrics: dict[str, Any],
    data: DataConfig,
    folder: Path,
) -> None:
    """Write curves, tables and the worst images; without hotcoco, what pycocotools suffices for.

    Args:
        evaluation: the result of `evaluator.evaluate`.
        metrics: the result of `evaluator.metrics`.
    """
    if metrics["AP"] is None:
        logger.info("no analysis of errors: no ground truth")
        return
    names = evaluator.dataset.class_names
    precision = evaluator.precision_at_50(evaluation)
    with whole_file(folder / "precision_recall.png") as png:
        analysis_plots.plot_precision_recall(precision, names, png)

    analysis = None
    if hotcoco_version() is None:
        logger.warning(
            "hotcoco is not installed (pip install 'mindyolo_v4[analysis]'): "
            "no F1 curve, confusion matrix, TIDE errors, worst images and suspicious labels"
        )
    else:
        truths = np.array([row["truths"] for row in metrics["per_class"]], np.int64)
        analysis = analyse(evaluator, evaluation, truths)
        _write_errors(evaluator, analysis, folder)
        _write_cases(evaluator, analysis, data, folder)
        best = f"F1 {analysis.curves.mean_f1.max():.3f} at --conf_thres {analysis.threshold:.3f}"
        logger.info("best confidence threshold, mean of the classes: %s", best)
    write_text(folder / "per_class.csv", analysis_tables.per_class_table(metrics, analysis))


def _write_errors(evaluator: CocoEvaluator, analysis: Analysis, folder: Path) -> None:
    """Write F1 curve, confusion matrix and kinds of errors."""
    names = evaluator.dataset.class_names
    with whole_file(folder / "f1_confidence.png") as png:
        analysis_plots.plot_f1(analysis.curves, names, png)
    with whole_file(folder / "confusion_matrix.png") as png:
        analysis_plots.plot_confusion(analysis.confusion, names, analysis.threshold, png)
    with whole_file(folder / "tide.png") as png:
        analysis_plots.plot_tide(analysis.tide, png)
    write_text(folder / "confusion_matrix.csv", analysis_tables.confusion_table(analysis, names))
    write_text(folder / "tide.csv", analysis_tables.tide_table(analysis))


def _write_cases(
    evaluator: CocoEvaluator, analysis: Analysis, data: DataConfig, folder: Path
) -> None:
    """Write the worst images and the suspicious labels."""
    dataset = evaluator.dataset
    table = analysis_tables.worst_images_table(analysis, dataset)
    write_text(folder / "worst_images.csv", table)
    table = analysis_tables.suspicious_labels_table(analysis, dataset, evaluator.predictions())
    write_text(folder / "suspicious_labels.csv", table)

    def draw(name: str, record_id: int, detections: Detections, least_score: float) -> None:
        record = dataset.records[record_id]
        image = read_or_grey(dataset, record_id, data)
        names = dataset.class_names
        pair = truth_beside_prediction(image, record, detections, names, least_score=least_score)
        write_jpeg(folder / name, pair)

    # With --exist_ok, an earlier test may have left more of them.
    for rank in range(1, MOST_CASES + 1):
        (folder / f"worst_{rank:02d}.jpg").unlink(missing_ok=True)
        (folder / f"suspicious_{rank:02d}.jpg").unlink(missing_ok=True)
    for rank, worst in enumerate(analysis.worst, 1):
        detections = analysis.matches.of_record(worst.record_id)
        draw(f"worst_{rank:02d}.jpg", worst.record_id, detections, analysis.threshold)
    for rank, label in enumerate(analysis.suspicious, 1):
        detections = analysis.matches.of_result(label.result_id)
        draw(f"suspicious_{rank:02d}.jpg", label.record_id, detections, 0.0)

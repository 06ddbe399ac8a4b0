"""The scores of detections, whatever back-end has made them."""

from typing import Any

from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.report import format_metrics_table
from mindyolo_v4.runtime.scores import Scores


def detection_scores(evaluator: CocoEvaluator, data_format: str, for_test: bool = True) -> Scores:
    """Return the metrics of all detections, and with `for_test` COCO's files."""
    metrics = evaluator.metrics()
    files: dict[str, Any] = {"predictions.json": evaluator.predictions()} if for_test else {}
    if for_test and data_format != "coco":
        files["ground_truth.json"] = evaluator.ground_truth()
    return Scores(metrics, format_metrics_table(metrics), files)

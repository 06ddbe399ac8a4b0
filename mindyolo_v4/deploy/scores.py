"""The scores of detections, whatever back-end has made them."""

from functools import partial
from typing import Any

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.deploy.analysis import write_analysis
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.report import format_metrics_table
from mindyolo_v4.runtime.scoring_run import Scores


def detection_scores(evaluator: CocoEvaluator, data: DataConfig, for_test: bool = True) -> Scores:
    """Return the metrics of all detections; with `for_test` COCO's files and the analysis too."""
    evaluation = evaluator.evaluate()
    metrics = evaluator.metrics_of(evaluation)
    table = format_metrics_table(metrics)
    if not for_test:
        return Scores(metrics, table, {})
    files: dict[str, Any] = {"predictions.json": evaluator.predictions()}
    if data.format != "coco":
        files["ground_truth.json"] = evaluator.ground_truth()
    draw = partial(write_analysis, evaluator, evaluation, metrics, data)
    return Scores(metrics, table, files, draw)

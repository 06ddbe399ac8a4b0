"""The metrics of an evaluator in one call."""

from typing import Any, Literal

from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator


def metrics_of(
    evaluator: CocoEvaluator, by: Literal["auto", "hotcoco", "pycocotools"] = "auto"
) -> dict[str, Any]:
    """Evaluate, and return the metrics."""
    return evaluator.metrics(evaluator.evaluate(by))

"""Weights and rules of the losses."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.errors import require_range


@dataclass(frozen=True)
class LossConfig:
    """Detector: terms are summed over cells and classes and divided by the images of the batch.

    The classifier's cross-entropy is a mean over the images and knows `label_smoothing` alone.
    """

    box: Literal["ciou", "diou", "giou", "iou"] = "ciou"  # box term: 1 - this
    box_gain: float = 7.5  # 5 to 10 equals darknet's iou_normalizer 0.07 in size of step
    obj_gain: float = 1.0
    cls_gain: float = 1.0
    anchor_threshold: float = (
        0.213  # anchors whose shape IoU exceeds this are positive too; 1 = best anchor only
    )
    ignore_threshold: float = (
        0.7  # a negative whose best IoU with a truth exceeds this is not trained as background
    )
    ignore_class_threshold: float | None = (
        None  # darknet's further condition: some class above 0.25; None = no condition
    )
    label_smoothing: float = (
        0.0  # e: class target y(1 - e) + e/2; classifier: truth 1 - e, others e/(C - 1)
    )

    def __post_init__(self) -> None:
        for name in ("box_gain", "obj_gain", "cls_gain"):
            require_range(f"loss.{name}", getattr(self, name), 0.0)
        for name in ("anchor_threshold", "ignore_threshold", "label_smoothing"):
            require_range(f"loss.{name}", getattr(self, name), 0.0, 1.0)
        if self.ignore_class_threshold is not None:
            require_range("loss.ignore_class_threshold", self.ignore_class_threshold, 0.0, 1.0)

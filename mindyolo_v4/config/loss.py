"""Weights and rules of the losses."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.config.ranges import require_ranges


@dataclass(frozen=True)
class LossConfig:
    """Detector: terms are summed over cells and classes and divided by the images of the batch.

    The classifier's cross-entropy is a mean over the images and uses `label_smoothing` alone.
    """

    box: Literal["ciou", "diou", "giou", "iou"] = "ciou"  # box term: 1 - this
    box_gain: float = 7.5  # 5 to 10 gives steps as large as darknet's iou_normalizer 0.07
    obj_gain: float = 1.0
    cls_gain: float = 1.0
    # Anchors whose shape IoU exceeds this are positive too; 1 = best anchor only.
    anchor_threshold: float = 0.213
    # A negative whose best IoU with the ground truth exceeds this is not trained as background.
    ignore_threshold: float = 0.7
    # darknet's further condition is 0.25: some class score exceeds this; None = no condition.
    ignore_class_threshold: float | None = None
    # Value e. Detector: class target y(1 - e) + e/2; classifier: 1 - e, other classes e/(C - 1).
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, "loss", ("box_gain", "obj_gain", "cls_gain"), 0.0)
        shares = (
            "anchor_threshold",
            "ignore_threshold",
            "label_smoothing",
            "ignore_class_threshold",
        )
        require_ranges(self, "loss", shares, 0.0, 1.0)

"""Weights and rules of the losses."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.errors import require, require_range, require_ranges


@dataclass(frozen=True)
class LossConfig:
    """Detector: terms are summed over cells and classes and divided by the images of the batch.

    The classifier's cross-entropy is a mean over the images and uses `label_smoothing` alone.
    """

    # Box term: 1 - this; mse: the squared loss of YOLOv3, whose usual gain is 0.75 to 1.
    box: Literal["ciou", "diou", "giou", "iou", "mse"] = "ciou"
    # Steps of training. autograd: the derivative of the loss; darknet: darknet's own, which for
    # boxes are not the derivative of any loss (losses/darknet.py). Reported values are the same.
    gradient: Literal["autograd", "darknet"] = "autograd"
    # Factor of the box term; 5 to 10 gives steps as large as darknet's iou_normalizer 0.07. With
    # gradient: darknet it multiplies the reported value only.
    box_gain: float = 7.5
    iou_normalizer: float = 0.07  # factor of the box step; gradient: darknet only
    # Largest change of a box logit per match, 5 in yolov4.cfg; gradient: darknet only, not mse.
    max_delta: float | None = None
    obj_gain: float = 1.0  # factor of the objectness term
    # Further factor of objectness per level, smallest stride first: 4, 1, 0.4 in yolov4-csp.cfg.
    obj_balance: tuple[float, ...] | None = None
    cls_gain: float = 1.0  # factor of the class term
    # Shape IoU above which further anchors are positive too; 1 = best anchor only.
    anchor_threshold: float = 0.213
    # A negative whose best IoU with the ground truth exceeds this is not trained as background.
    ignore_threshold: float = 0.7
    # Further condition, 0.25 in darknet: some class score exceeds this; null = no condition.
    ignore_class_threshold: float | None = None
    # What the ignore rule leaves out is trained towards its best IoU instead (yolov4-csp.cfg). With
    # gradient: darknet, matches too, as in darknet: 1 is not a target of any prediction then.
    objectness_smooth: bool = False
    # Objectness target of a match: 1, or the similarity of its boxes between 0 and 1 (scaled
    # YOLOv4): that of `box`, CIoU with mse.
    objectness_target: Literal["one", "iou"] = "one"
    # Exponent of the focal loss of objectness and classes, at least 1, usually 2; null = off. With
    # gradient: darknet it is darknet's own form, of the classes only, with 2.
    focal_gamma: float | None = None
    # One factor per class, of the box, objectness and own-class term of its objects.
    # darknet's counters_per_class n gives max(n) / n, at most max_delta.
    class_weights: tuple[float, ...] | None = None
    # Share e of a class target that is smoothed. Detector: class target y(1 - e) + e/2; classifier:
    # 1 - e, other classes e/(C - 1).
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        gains = ("box_gain", "obj_gain", "cls_gain", "iou_normalizer")
        require_ranges(self, "loss", gains, 0.0)
        require_ranges(self, "loss", ("max_delta",), 0.0, open_low=True)
        require_ranges(self, "loss", ("focal_gamma",), 1.0, 10.0)
        shares = (
            "anchor_threshold",
            "ignore_threshold",
            "label_smoothing",
            "ignore_class_threshold",
        )
        require_ranges(self, "loss", shares, 0.0, 1.0)
        for factor in self.obj_balance or ():
            require_range("loss.obj_balance", factor, 0.0)
        for weight in self.class_weights or ():
            require_range("loss.class_weights", weight, 0.0)
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Raise UserError for a value that would have no effect beside the others."""
        is_darknet = self.gradient == "darknet"
        key = "loss.max_delta"
        clips = is_darknet and self.box != "mse"
        expected = "gradient: darknet, box: not mse"
        require(self.max_delta is None or clips, key, "no step to clip", self.max_delta, expected)

        key = "loss.iou_normalizer"
        is_used = is_darknet or self.iou_normalizer == LossConfig.iou_normalizer
        problem = "has no effect without gradient: darknet, see box_gain"
        require(is_used, key, problem, self.iou_normalizer)

        key = "loss.focal_gamma"
        gamma = self.focal_gamma
        is_known = not is_darknet or gamma in (None, 2.0)
        require(is_known, key, "gradient: darknet has one value", gamma, 2)

        key = "loss.objectness_target"
        target = self.objectness_target
        is_used = target == "one" or not (is_darknet and self.objectness_smooth)
        problem = "has no effect with gradient: darknet and objectness_smooth"
        require(is_used, key, problem, target, "one")

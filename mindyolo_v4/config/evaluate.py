"""How detections are made from raw maps, and scored."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.config.ranges import require_ranges


@dataclass(frozen=True)
class EvaluateConfig:
    """Candidate filter, non-maximum suppression and limits of a validation."""

    split: Literal["train", "val", "test"] = "val"
    conf_thres: float = 0.001  # lowest objectness x class score of a candidate
    iou_thres: float = 0.6  # a box is suppressed by a better one of its class above this
    nms: Literal["iou", "diou"] = "iou"  # diou: IoU - (d^2/c^2)^0.6, darknet's greedynms
    multi_label: bool = True  # one cell gives a detection for every class above the threshold
    max_candidates: int = 30000  # candidates per image that enter NMS, best scores first
    max_det: int = 300  # detections kept per image
    per_batch_size: int | None = None  # images per device; default: train.per_batch_size

    def __post_init__(self) -> None:
        require_ranges(self, "evaluate", ("conf_thres", "iou_thres"), 0.0, 1.0)
        require_ranges(self, "evaluate", ("max_candidates", "max_det"), 1)
        require_ranges(self, "evaluate", ("per_batch_size",), 1, 2**20)

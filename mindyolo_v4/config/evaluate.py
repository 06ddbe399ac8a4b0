"""How detections are made from raw maps, and scored."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.errors import require_range


@dataclass(frozen=True)
class EvaluateConfig:
    """Candidate filter, non-maximum suppression and limits of a validation."""

    split: Literal["train", "val", "test"] = "val"
    conf_thres: float = 0.001  # objectness x class score below this is no candidate
    iou_thres: float = 0.6  # a box is suppressed by a better one of its class above this
    nms: Literal["iou", "diou"] = "iou"  # diou: IoU - (d^2/c^2)^0.6, darknet's greedynms
    multi_label: bool = True  # every class above the threshold is a detection of its own
    max_candidates: int = 30000  # best-scored candidates an image that enter NMS
    max_det: int = 300  # detections kept an image
    per_batch_size: int | None = None  # images a device; default: train.per_batch_size

    def __post_init__(self) -> None:
        for name in ("conf_thres", "iou_thres"):
            require_range(f"evaluate.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("max_candidates", "max_det"):
            require_range(f"evaluate.{name}", getattr(self, name), 1)
        if self.per_batch_size is not None:
            require_range("evaluate.per_batch_size", self.per_batch_size, 1)

"""How detections are made from raw maps, and scored."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.errors import require, require_range, require_ranges

MOST_SCALES = 8  # of tta_scales: a graph is compiled for each
# What predictions use instead of the keys' own defaults and of a recipe. Soft suppression and boxes
# of low scores are for AP: shown, they are several boxes of one object.
PREDICTION = {"evaluate.conf_thres": "0.25", "evaluate.iou_thres": "0.45", "evaluate.nms": "iou"}


@dataclass(frozen=True)
class EvaluateConfig:
    """Candidate filter, suppression, views of an image and limits of a validation."""

    split: Literal["train", "val", "test"] = "val"  # split that is scored
    conf_thres: float = 0.001  # lowest objectness x class score of a candidate
    iou_thres: float = 0.6  # IoU above which a box is suppressed by a better one of its class
    # Suppression. iou: greedy; diou: with IoU - (d^2/c^2)^0.6, darknet's greedynms; soft_linear,
    # soft_gaussian: soft-NMS, which lowers scores; wbf: weighted boxes fusion, a mean of boxes.
    nms: Literal["iou", "diou", "soft_linear", "soft_gaussian", "wbf"] = "iou"
    soft_sigma: float = 0.5  # soft_gaussian: scores are multiplied by exp(-IoU^2 / soft_sigma)
    multi_label: bool = True  # one cell gives a detection for every class above the threshold
    max_candidates: int = 30000  # candidates per image that enter NMS, best scores first
    max_det: int = 300  # detections kept per image
    per_batch_size: int | None = None  # images per device; default: train.per_batch_size
    tta: bool = False  # test-time augmentation: an image is seen at tta_scales, and mirrored
    # Input sizes as multiples of data.img_size, each rounded to a multiple of 32 pixels. One graph
    # is compiled per size.
    tta_scales: tuple[float, ...] = (0.75, 1.0, 1.25)
    tta_flip: bool = True  # see each scale mirrored left-right too
    # Side of the tiles that a larger image is cut into, original pixels, a multiple of 32. The
    # network sees each tile, fitted to data.img_size, and the whole image. Null: no tiles.
    tile: int | None = None
    tile_overlap: float = 0.2  # least share of a tile's side that the next tile repeats

    def __post_init__(self) -> None:
        require_ranges(self, "evaluate", ("conf_thres", "iou_thres"), 0.0, 1.0)
        require_ranges(self, "evaluate", ("soft_sigma",), 0.0, 100.0, open_low=True)
        require_ranges(self, "evaluate", ("max_candidates", "max_det"), 1)
        require_ranges(self, "evaluate", ("per_batch_size",), 1, 2**20)
        require_ranges(self, "evaluate", ("tile",), 32, 2**16)
        require((self.tile or 0) % 32 == 0, "evaluate.tile", "not a multiple of 32", self.tile)
        require_ranges(self, "evaluate", ("tile_overlap",), 0.0, 0.9)

        key = "evaluate.tta_scales"
        is_count = 1 <= len(self.tta_scales) <= MOST_SCALES
        expected = f"1 to {MOST_SCALES} numbers"
        require(is_count, key, "needs a list of scales", self.tta_scales, expected)
        for scale in self.tta_scales:
            require_range(key, scale, 0.25, 4.0)

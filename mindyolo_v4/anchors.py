"""Output levels of the detector and the numpy decode: raw map -> boxes and scores.

The graph's own decode is `losses/decode.py`; a test holds the two equal.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Sizes = tuple[tuple[float, float], ...]
Masks = tuple[tuple[int, ...], ...]

# Both decodes clamp the logits of width and height here: e^10 anchors is hundreds of inputs wide.
MAX_SIZE_LOGIT = 10.0

YOLOV4_ANCHORS_WH_PX = (
    (12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401)
)  # fmt: skip
YOLOV4_TINY_ANCHORS_WH_PX = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))


class Layout(NamedTuple):
    """The output levels of one architecture, smallest stride first; a classifier has none."""

    strides: tuple[int, ...]  # pixels
    anchor_masks: Masks  # default: numbers of the anchors that each level uses
    anchors_wh_px: Sizes  # default
    scale_x_y: tuple[float, ...]  # default, per level
    box_decode: Literal["exp", "square"] = "exp"  # default, as ModelConfig.box_decode


_STRIDES = (8, 16, 32)
_MASKS = ((0, 1, 2), (3, 4, 5), (6, 7, 8))
_YOLOV4 = Layout(_STRIDES, _MASKS, YOLOV4_ANCHORS_WH_PX, (1.2, 1.1, 1.05))
_SCALED = Layout(_STRIDES, _MASKS, YOLOV4_ANCHORS_WH_PX, (2.0, 2.0, 2.0), "square")
# The released yolov4-tiny uses anchor 3 on both levels and anchor 0 on neither.
_TINY = Layout((16, 32), ((1, 2, 3), (3, 4, 5)), YOLOV4_TINY_ANCHORS_WH_PX, (1.05, 1.05))
LAYOUTS = {
    "yolov4": _YOLOV4,
    "yolov4-silu": _YOLOV4,
    "yolov4-csp": _SCALED,
    "yolov4x-mish": _SCALED,
    "yolov4-tiny": _TINY,
    "yolov4-tiny-3l": Layout(_STRIDES, _MASKS, YOLOV4_ANCHORS_WH_PX, (1.05, 1.05, 1.05)),
    "cspdarknet53": Layout((), (), (), ()),
}


@dataclass(frozen=True)
class AnchorLevel:
    """One output map: cells of `stride` pixels, each with the anchors `anchor_ids` of the set."""

    stride: int  # pixels
    anchor_ids: tuple[int, ...]
    anchors_wh_px: Sizes  # of this level, in the order of the map's channels
    scale_x_y: float  # 1.2, 1.1, 1.05 in YOLOv4: lets a centre reach the border of its cell
    box_decode: str = "exp"  # as ModelConfig.box_decode


@dataclass(frozen=True)
class AnchorSet:
    """All anchors of a network and the levels that use them, smallest stride first."""

    anchors_wh_px: Sizes
    levels: tuple[AnchorLevel, ...]


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return 1 / (1 + e^-x) without overflow."""
    half = np.tanh(logits * 0.5)
    return half * 0.5 + 0.5


def decode_boxes(
    box_logits: NDArray[np.floating],
    columns: NDArray[np.integer],
    rows: NDArray[np.integer],
    anchors_wh_px: NDArray[np.floating],
    level: AnchorLevel,
) -> NDArray[np.floating]:
    """Decode N predictions of one level to centre and size in input pixels (N, 4).

    b_x = (i + s sigma(t_x) - (s - 1) / 2) stride, b_w = a_w e^{t_w}; b_y, b_h alike (darknet
    `get_yolo_box` with scale_x_y = s). With `box_decode: square` b_w = a_w (2 sigma(t_w))^2
    (scaled YOLOv4, darknet's `new_coords`).

    Args:
        box_logits: t_x, t_y, t_w, t_h (N, 4).
        columns, rows: cell of each prediction (N,).
        anchors_wh_px: anchor of each prediction (N, 2), pixels.
    """
    cells = np.stack([columns, rows], axis=-1).astype(box_logits.dtype)
    scale = level.scale_x_y
    centres = (cells + scale * sigmoid(box_logits[:, :2]) - (scale - 1) / 2) * level.stride
    if level.box_decode == "square":
        sizes = (2 * sigmoid(box_logits[:, 2:])) ** 2 * anchors_wh_px
    else:
        sizes = np.exp(np.minimum(box_logits[:, 2:], MAX_SIZE_LOGIT)) * anchors_wh_px
    return np.concatenate([centres, sizes], axis=-1)

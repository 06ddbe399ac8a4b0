"""Whether an exported file computes what the network computes, on one image."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorSet, decode_boxes, sigmoid
from mindyolo_v4.boxes import cxcywh_to_xyxy
from mindyolo_v4.errors import UserError

Arrays = Mapping[str, NDArray]


def named_outputs(outputs: Sequence[NDArray], anchors: AnchorSet) -> dict[str, NDArray]:
    """Return the outputs of a network by the names that they have in an exported file."""
    if not anchors.levels:
        return {"logits": outputs[0]}
    names = [f"map{level.stride}" for level in anchors.levels]
    return dict(zip(names, outputs, strict=True))


def decoded_outputs(raw_maps: Sequence[NDArray], anchors: AnchorSet) -> dict[str, NDArray]:
    """Return all boxes (1, N, 4), corners in input pixels, and scores (1, N, C) of one image.

    The predictions are ordered by level, anchor, row and column.
    """
    boxes = []
    scores = []
    for raw, level in zip(raw_maps, anchors.levels, strict=True):
        anchors_wh_px = np.array(level.anchors_wh_px)
        rows, columns = raw.shape[2:]
        split = raw[0].reshape(len(anchors_wh_px), -1, rows, columns)
        values = split.transpose(0, 2, 3, 1).reshape(-1, split.shape[1]).astype(np.float64)
        anchor, row, column = np.indices((len(anchors_wh_px), rows, columns)).reshape(3, -1)
        centres = decode_boxes(values[:, :4], column, row, anchors_wh_px[anchor], level)
        boxes.append(cxcywh_to_xyxy(centres))
        scores.append(sigmoid(values[:, 4:5]) * sigmoid(values[:, 5:]))
    return {"boxes": np.concatenate(boxes)[None], "scores": np.concatenate(scores)[None]}


def require_equal(worst: float, tolerance: float, target: object) -> None:
    """Raise UserError where the difference is too large."""
    if not worst <= tolerance:
        problem = "was not written: it does not compute what the network computes"
        raise UserError(target, problem, f"{worst:.1e}", f"at most {tolerance:g}, or --tolerance")

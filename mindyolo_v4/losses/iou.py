"""The IoU family on planar boxes, differentiable: each box is four tensors of one shape."""

import math

from mindspore import Tensor, ops

from mindyolo_v4.losses.decode import Planes

# Added where a prediction without size would divide 0 by 0; below float32's resolution of any real box.
_TINY = 1e-9


def box_similarity(boxes: Planes, truths: Planes, kind: str) -> Tensor:
    """Return IoU, GIoU, DIoU or CIoU of boxes and truths that correspond one to one.

    IoU = I / U; GIoU = IoU - (hull - U) / hull; DIoU = IoU - d^2 / c^2; CIoU = DIoU - alpha v with
    v = 4 / pi^2 (atan(w_t / h_t) - atan(w / h))^2 and alpha = v / (1 - IoU + v + 1e-6) held constant in the gradient
    (Zheng et al., arXiv:1911.08287; arXiv:1902.09630 for GIoU).

    Args:
        boxes, truths: centre x, centre y, width, height, equal shapes and one unit.
        kind: "iou", "giou", "diou" or "ciou".
    """
    x, y, w, h = boxes
    truth_x, truth_y, truth_w, truth_h = truths
    overlap_w, hull_w = _overlap_and_hull(x, w, truth_x, truth_w)
    overlap_h, hull_h = _overlap_and_hull(y, h, truth_y, truth_h)
    intersection = ops.relu(overlap_w) * ops.relu(overlap_h)
    union = w * h + truth_w * truth_h - intersection
    iou = intersection / (union + _TINY)
    if kind == "iou":
        return iou
    if kind == "giou":
        hull = hull_w * hull_h + _TINY
        return iou - (hull - union) / hull
    distance = ops.square(x - truth_x) + ops.square(y - truth_y)
    diou = iou - distance / (ops.square(hull_w) + ops.square(hull_h) + _TINY)
    if kind == "diou":
        return diou
    angle = ops.atan(truth_w / (truth_h + _TINY)) - ops.atan(w / (h + _TINY))
    aspect = ops.square(angle) * (4 / math.pi**2)
    alpha = ops.stop_gradient(aspect / (1 - iou + aspect + 1e-6))
    return diou - alpha * aspect


def _overlap_and_hull(
    centre: Tensor, size: Tensor, truth_centre: Tensor, truth_size: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the signed overlap of two intervals and the length that holds both."""
    low, high = centre - size / 2, centre + size / 2
    truth_low, truth_high = truth_centre - truth_size / 2, truth_centre + truth_size / 2
    overlap = ops.minimum(high, truth_high) - ops.maximum(low, truth_low)
    hull = ops.maximum(high, truth_high) - ops.minimum(low, truth_low)
    return overlap, hull

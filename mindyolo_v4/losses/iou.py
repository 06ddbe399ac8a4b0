"""The IoU family on planar boxes, differentiable: each box is four tensors of one shape."""

import math

from mindspore import Tensor, ops

from mindyolo_v4.losses.decode import Planes

# Keeps a prediction without size from dividing 0 by 0; below float32's resolution of real boxes.
_TINY = 1e-9


def box_similarity(boxes: Planes, targets: Planes, kind: str) -> Tensor:
    """Return IoU, GIoU, DIoU or CIoU of boxes and their targets, one to one.

    IoU = I / U; GIoU = IoU - (hull - U) / hull; DIoU = IoU - d^2 / c^2; CIoU = DIoU - alpha v with
    v = 4 / pi^2 (atan(w_t / h_t) - atan(w / h))^2 and alpha = v / (1 - IoU + v + 1e-6), which is
    constant in the gradient (Zheng et al., arXiv:1911.08287; GIoU: arXiv:1902.09630).

    Args:
        boxes, targets: centre x, centre y, width, height, equal shapes and one unit.
        kind: "iou", "giou", "diou" or "ciou".
    """
    x, y, w, h = boxes
    target_x, target_y, target_w, target_h = targets
    overlap_w, hull_w = _overlap_and_hull(x, w, target_x, target_w)
    overlap_h, hull_h = _overlap_and_hull(y, h, target_y, target_h)

    intersection = ops.relu(overlap_w) * ops.relu(overlap_h)
    union = w * h + target_w * target_h - intersection
    iou = intersection / (union + _TINY)
    if kind == "iou":
        return iou

    if kind == "giou":
        hull = hull_w * hull_h + _TINY
        return iou - (hull - union) / hull

    distance = ops.square(x - target_x) + ops.square(y - target_y)
    diou = iou - distance / (ops.square(hull_w) + ops.square(hull_h) + _TINY)
    if kind == "diou":
        return diou

    angle = ops.atan(target_w / (target_h + _TINY)) - ops.atan(w / (h + _TINY))
    aspect = ops.square(angle) * (4 / math.pi**2)
    alpha = ops.stop_gradient(aspect / (1 - iou + aspect + 1e-6))
    return diou - alpha * aspect


def _overlap_and_hull(
    centre: Tensor, size: Tensor, target_centre: Tensor, target_size: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the signed overlap of two intervals and the length that holds both."""
    low = centre - size / 2
    high = centre + size / 2
    target_low = target_centre - target_size / 2
    target_high = target_centre + target_size / 2
    overlap = ops.minimum(high, target_high) - ops.maximum(low, target_low)
    hull = ops.maximum(high, target_high) - ops.minimum(low, target_low)
    return overlap, hull

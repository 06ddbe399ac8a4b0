"""darknet's own gradients: what `loss.gradient: darknet` gives instead of the true derivative.

darknet has no loss that is differentiated. Its yolo layer writes a delta per output, the direction
in which the output is moved (`src/yolo_layer.c`: `delta_yolo_box`, `delta_yolo_class`;
`src/box.c`: `dx_box_iou`). For objectness and classes the delta is y - p, which is the gradient of
the cross-entropy with opposite sign. For boxes it is not the gradient of any loss.

A delta becomes a gradient through a surrogate loss, sum(-stop_gradient(delta) x logit).
"""

import math

import mindspore as ms
from mindspore import Tensor, ops

from mindyolo_v4.losses.decode import Planes

# Terms along one axis: overlap and hull of the two intervals, then what centre and size of the
# prediction change in them.
Axis = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def box_gradient(boxes: Planes, targets: Planes, kind: str) -> Planes:
    """Return darknet's D_x, D_y, D_w, D_h, the direction in which a box's similarity rises.

    With I and U intersection and union, C the hull's area, c its diagonal, d the distance of the
    centres:

    - IoU: the derivative of I / U; 0 for boxes apart. D_w and D_h are twice the derivative.
    - GIoU: plus that of U / C, doubled alike.
    - DIoU, CIoU: plus [2 (t_x - p_x) c^2 - d^2 dc^2/dx] / c^4 for x and y, in which the second term
      has the wrong sign, and d^2 dc^2/dw / c^4 for w and h, which is right.
    - CIoU: plus alpha (8 / pi^2) (atan_t - atan_p) (h, -w) for (w, h), without the division by
      w^2 + h^2; alpha = v / (1 - I / U + v + 1e-6), where I is also negative or, for boxes apart in
      both directions, a positive product.

    An edge counts only where it is strictly inside, or for the hull outside, that of the target.
    Values without a meaning are NaN or infinite, as in darknet.

    Args:
        boxes, targets: centre x, centre y, width, height, equal shapes, fractions of the input (D
            depends on the unit).
        kind: "iou", "giou", "diou" or "ciou".
    """
    x, y, w, h = boxes
    target_x, target_y, target_w, target_h = targets
    along_x = _axis(x, w, target_x, target_w)
    along_y = _axis(y, h, target_y, target_h)

    intersection = along_x[0] * along_y[0]
    union = w * h + target_w * target_h - intersection
    gradient_x, gradient_w = _iou_part(along_x, along_y, intersection, union, h, kind)
    gradient_y, gradient_h = _iou_part(along_y, along_x, intersection, union, w, kind)
    if kind in ("iou", "giou"):
        return gradient_x, gradient_y, gradient_w, gradient_h

    distance = ops.square(target_x - x) + ops.square(target_y - y)
    diagonal = ops.square(along_x[1]) + ops.square(along_y[1])
    distance_x, distance_w = _distance_part(along_x, target_x - x, distance, diagonal)
    distance_y, distance_h = _distance_part(along_y, target_y - y, distance, diagonal)
    gradient_x += distance_x
    gradient_y += distance_y
    gradient_w += distance_w
    gradient_h += distance_h
    if kind == "diou":
        return gradient_x, gradient_y, gradient_w, gradient_h

    angle = ops.atan(target_w / target_h) - ops.atan(w / h)
    aspect = ops.square(angle) * (4 / math.pi**2)
    alpha = aspect / (1 - intersection / union + aspect + 1e-6)
    slope = alpha * angle * (8 / math.pi**2)
    return gradient_x, gradient_y, gradient_w + slope * h, gradient_h - slope * w


def _axis(centre: Tensor, size: Tensor, target_centre: Tensor, target_size: Tensor) -> Axis:
    """Return overlap, hull, and their derivatives by the centre and, doubled, by the size."""
    low = centre - size / 2
    high = centre + size / 2
    target_low = target_centre - target_size / 2
    target_high = target_centre + target_size / 2
    overlap = ops.minimum(high, target_high) - ops.maximum(low, target_low)
    hull = ops.maximum(high, target_high) - ops.minimum(low, target_low)

    inside_low = ops.cast(low > target_low, ms.float32)
    inside_high = ops.cast(high < target_high, ms.float32)
    outside_low = ops.cast(low < target_low, ms.float32)
    outside_high = ops.cast(high > target_high, ms.float32)
    by_centre = (inside_high - inside_low, outside_high - outside_low)
    by_size = (inside_high + inside_low, outside_high + outside_low)
    return overlap, hull, by_centre[0], by_size[0], by_centre[1], by_size[1]


def _iou_part(
    own: Axis, other: Axis, intersection: Tensor, union: Tensor, other_size: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    """Return the derivatives of IoU or GIoU by centre and size along the axis `own`."""
    overlap, hull, overlap_by_centre, overlap_by_size, hull_by_centre, hull_by_size = own
    other_overlap = other[0]
    other_hull = other[1]
    meet = ops.cast(ops.logical_and(overlap > 0, other_overlap > 0), ms.float32)

    # By the centre the prediction's area does not change; by the size, doubled, twice the side.
    i_centre = overlap_by_centre * other_overlap
    i_size = overlap_by_size * other_overlap
    u_centre = -i_centre
    u_size = 2 * other_size - i_size
    by_centre = meet * (union * i_centre - intersection * u_centre) / ops.square(union)
    by_size = meet * (union * i_size - intersection * u_size) / ops.square(union)
    if kind != "giou":
        return by_centre, by_size

    area = hull * other_hull
    c_centre = hull_by_centre * other_hull
    c_size = hull_by_size * other_hull
    by_centre += (area * u_centre - union * c_centre) / ops.square(area)
    by_size += (area * u_size - union * c_size) / ops.square(area)
    return by_centre, by_size


def _distance_part(
    own: Axis, difference: Tensor, distance: Tensor, diagonal: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the part of -d^2 / c^2 by centre, with darknet's sign, and by size."""
    _, hull, _, _, hull_by_centre, hull_by_size = own
    diagonal_by_centre = 2 * hull * hull_by_centre
    diagonal_by_size = hull * hull_by_size
    by_centre = 2 * difference * diagonal - distance * diagonal_by_centre
    by_size = distance * diagonal_by_size
    return by_centre / ops.square(diagonal), by_size / ops.square(diagonal)


def limit(delta: Tensor, max_delta: float | None) -> Tensor:
    """Return a delta with 0 for NaN and infinity, then clipped to -max_delta..max_delta."""
    delta = ops.select(ops.isfinite(delta), delta, ops.zeros_like(delta))
    if max_delta is None:
        return delta
    return ops.clamp(delta, -max_delta, max_delta)


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return `value` with the gradient of `surrogate`."""
    return ops.stop_gradient(value) + (surrogate - ops.stop_gradient(surrogate))


def behind_logistic(logits: Tensor) -> Tensor:
    """Return logits whose gradients are multiplied by p (1 - p), p = sigma(logit).

    With `new_coords` darknet's last convolution has a logistic activation: the yolo layer writes
    the same deltas, and the convolution multiplies them by the derivative of its activation
    (`backward_convolutional_layer`: `gradient_array`).
    """
    fixed = ops.stop_gradient(logits)
    probability = ops.sigmoid(fixed)
    return fixed + probability * (1 - probability) * (logits - fixed)


def focal_weight(logits: Tensor) -> Tensor:
    """Return the factor of all class deltas of a match: g / 2, without gradient.

    g = -(1 - q) (2 q ln q + q - 1) with q the probability of the true class: darknet's
    `focal_loss=1`, the derivative of Lin's loss with gamma 2 over that of the cross-entropy at the
    true class. darknet gives it to the other classes too, and takes q of the first target of a
    prediction; a second class is then trained without it.

    Args:
        logits: of the true classes.
    """
    q = ops.sigmoid(ops.stop_gradient(logits))
    return -0.5 * (1 - q) * (2 * q * ops.log(q + 1e-15) + q - 1)


def of_same_prediction(values: Tensor, prediction: Tensor) -> Tensor:
    """Return for each match the sum of the values of all matches of its prediction.

    Args:
        values: (B, 1, P).
        prediction: int32 (B, 1, P).

    Returns:
        (B, 1, P).
    """
    is_same = prediction == prediction.transpose(0, 2, 1)  # (B, P, P)
    return ops.sum(values * is_same.astype(ms.float32), dim=2).expand_dims(1)

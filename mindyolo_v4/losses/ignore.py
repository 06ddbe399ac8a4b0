"""The ignore rule: a prediction that overlaps a target well is not trained as background.

With `loss.objectness_smooth` it is trained towards its best IoU instead.
"""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, ops

from mindyolo_v4.losses.decode import Planes, concat_predictions, split_in_four

# boxes, targets, share -> the greatest score of each prediction
Greatest = Callable[[Planes, Tensor, float | None], Tensor]

# Elements of one intermediate array: B x chunk x N float32 of about 6 MB.
_CHUNK_ELEMENTS = 1_500_000
# The same of the form for other devices: at most 268 MB, of which three or four exist at a time.
# With 160 targets, 16 images of 608 pixels need one chunk, of 233 MB.
_BROADCAST_ELEMENTS = 2**26
# Added to the cost of a padding target, so that no prediction overlaps it enough.
_PADDING_COST = 1e30
# Keeps a prediction without size from dividing 0 by 0; far below the area of any box, pixels^2.
_TINY = 1e-9

# Primitives, as in `losses.detection`.
_greatest = ops.ReduceMax(keep_dims=True)


def overlaps_target(
    boxes: Planes, targets_xyxy_px: Tensor, threshold: float, greatest_score: Greatest
) -> Tensor:
    """Return whether each prediction's best IoU with a target exceeds `threshold`: (B, 1, N).

    I / (a_p + a_t - I) > h is I - k a_t > k a_p with k = h / (1 + h), so that only the greatest
    I - k a_t is kept and nothing is divided.

    Args:
        boxes: centre x, centre y, width, height, each (B, 1, N), pixels.
        targets_xyxy_px: (B, 4, T); boxes without width are padding.
        greatest_score: the form for the device, `tiled_greatest` or `broadcast_greatest`.
    """
    share = threshold / (1 + threshold)
    return greatest_score(boxes, targets_xyxy_px, share) > share * (boxes[2] * boxes[3])


def tiled_greatest(boxes: Planes, targets_xyxy_px: Tensor, share: float | None) -> Tensor:
    """Return the greatest I - share x target area of each prediction: (B, 1, N).

    Without a share, it is the best IoU, which is not positive without overlap. This is the form for
    the CPU: all operands are tiled to B x chunk x N first, and the maximum runs over chunks before
    it is reduced, because MindSpore's CPU kernels broadcast and reduce slowly and keep index tables
    as large as a broadcast output. Chunks depend on one another so that their memory is reused.
    """
    x, y, w, h = boxes
    batch, _, predictions = x.shape

    # Chunks of equal size: the last one is filled up with padding.
    targets = targets_xyxy_px.shape[2]
    chunks = -(-targets * batch * predictions // _CHUNK_ELEMENTS)
    step = -(-targets // chunks)
    missing = chunks * step - targets
    if missing > 0:
        padding = ops.zeros((batch, 4, missing), ms.float32)
        targets_xyxy_px = concat_predictions((targets_xyxy_px, padding))

    # The predictions' sides, once per target of a chunk.
    sides = ()
    for plane in (x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h):
        sides += (ops.tile(plane, (1, step, 1)),)

    # The greatest score over the chunks, then over the targets of a chunk.
    best = _scores(sides, ops.slice(targets_xyxy_px, (0, 0, 0), (batch, 4, step)), share, True)
    for chunk in range(1, chunks):
        part = ops.slice(targets_xyxy_px, (0, 0, chunk * step), (batch, 4, step))
        best = ops.maximum(best, _scores(sides, ops.depend(part, best), share, True))
    return _greatest(best, 1)


def broadcast_greatest(boxes: Planes, targets_xyxy_px: Tensor, share: float | None) -> Tensor:
    """Return what `tiled_greatest` does, in the form for other devices.

    On Ascend, broadcasting costs nothing and each operator its launch: operands are not tiled, and
    the chunks of targets are few and large.
    """
    x, y, w, h = boxes
    batch, _, predictions = x.shape
    sides = (x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h)

    # Chunks of nearly equal size; the greatest score in each, then over all.
    targets = targets_xyxy_px.shape[2]
    chunks = -(-targets * batch * predictions // _BROADCAST_ELEMENTS)
    best = ()
    for chunk in range(chunks):
        start = chunk * targets // chunks
        step = (chunk + 1) * targets // chunks - start
        part = ops.slice(targets_xyxy_px, (0, 0, start), (batch, 4, step))
        if chunk > 0:
            part = ops.depend(part, best)
        greatest = _greatest(_scores(sides, part, share, False), 1)
        best = greatest if chunk == 0 else ops.maximum(best, greatest)
    return best


def _scores(sides: Planes, targets_xyxy_px: Tensor, share: float | None, is_tiled: bool) -> Tensor:
    """Return I - share x target area (B, t, N) of targets (B, 4, t); without a share, the IoU.

    Args:
        sides: of the predictions, (B, t, N) where they are tiled, else (B, 1, N).
    """
    low_x, low_y, high_x, high_y = sides
    batch, _, step = targets_xyxy_px.shape
    left, top, right, bottom = split_in_four(targets_xyxy_px.reshape(batch, 4 * step, 1))
    cost = _cost(left, top, right, bottom, share)
    if is_tiled:
        tiling = (1, 1, low_x.shape[2])
        left = ops.tile(left, tiling)
        top = ops.tile(top, tiling)
        right = ops.tile(right, tiling)
        bottom = ops.tile(bottom, tiling)
        cost = ops.tile(cost, tiling)

    # The intersection. One relu is enough: boxes apart in y give a product that is not positive.
    width = ops.minimum(high_x, right) - ops.maximum(low_x, left)
    height = ops.minimum(high_y, bottom) - ops.maximum(low_y, top)
    intersection = ops.relu(width) * height
    return _iou(intersection, sides, cost) if share is None else intersection - cost


def _iou(intersection: Tensor, sides: Planes, target_area: Tensor) -> Tensor:
    """Return I / (a_p + a_t - I), where boxes apart in y have a value that is not positive."""
    low_x, low_y, high_x, high_y = sides
    union = (high_x - low_x) * (high_y - low_y) + target_area - intersection
    return intersection / (union + _TINY)


def _cost(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor, share: float | None) -> Tensor:
    """Return what a target takes off the intersection; a padding target more than any has.

    Without a share, return the target's area.
    """
    area = (right - left) * (bottom - top)
    if share is None:
        return area
    return share * area + _PADDING_COST * ops.cast(area <= 0, ms.float32)

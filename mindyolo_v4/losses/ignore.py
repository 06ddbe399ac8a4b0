"""The ignore rule: a prediction that fits some truth well is not trained as background."""

import mindspore as ms
from mindspore import Tensor, ops

from mindyolo_v4.losses.decode import Planes

# Elements of one intermediate array: B x chunk x N float32 of about 6 MB.
_CHUNK_ELEMENTS = 1_500_000
# Stands for the area of a padding truth: no prediction overlaps it enough.
_NO_TRUTH = 1e30

# Primitives, as in `losses.detection`.
_concat, _split_in_four, _greatest = ops.Concat(2), ops.Split(1, 4), ops.ReduceMax(keep_dims=True)


def overlaps_target(boxes: Planes, truths_xyxy_px: Tensor, threshold: float) -> Tensor:
    """Return whether the best IoU of each prediction with its image's truths exceeds `threshold`: bool (B, 1, N).

    I / (a_p + a_t - I) > h is I - k a_t > k a_p with k = h / (1 + h), so that only the greatest I - k a_t is kept and
    nothing is divided. All operands are tiled to B x chunk x N first, and the maximum runs over chunks before it is
    reduced, because MindSpore's CPU kernels broadcast and reduce slowly and keep index tables as large as a broadcast
    output. Chunks depend on each other so that their memory is reused.

    Args:
        boxes: centre x, centre y, width, height, each (B, 1, N), pixels.
        truths_xyxy_px: (B, 4, T); boxes without width are padding.
    """
    x, y, w, h = boxes
    batch, _, count = x.shape
    chunks, step = _chunking(batch * count, truths_xyxy_px.shape[2])
    missing = chunks * step - truths_xyxy_px.shape[2]
    if missing > 0:
        truths_xyxy_px = _concat((truths_xyxy_px, ops.zeros((batch, 4, missing), ms.float32)))
    share = threshold / (1 + threshold)
    sides = ()
    for plane in (x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h):
        sides += (ops.tile(plane, (1, step, 1)),)
    best = _excess(sides, ops.slice(truths_xyxy_px, (0, 0, 0), (batch, 4, step)), share)
    for chunk in range(1, chunks):
        truths = ops.depend(ops.slice(truths_xyxy_px, (0, 0, chunk * step), (batch, 4, step)), best)
        best = ops.maximum(best, _excess(sides, truths, share))
    return _greatest(best, 1) > share * (w * h)


def _chunking(elements_per_target: int, truths: int) -> tuple[int, int]:
    """Return the number of chunks and the truths in each."""
    chunks = -(-truths * elements_per_target // _CHUNK_ELEMENTS)
    return chunks, -(-truths // chunks)


def _excess(sides: Planes, truths_xyxy_px: Tensor, share: float) -> Tensor:
    """Return I - share x truth area of each truth (B, 4, t) and prediction (four sides, B x t x N): (B, t, N)."""
    low_x, low_y, high_x, high_y = sides
    batch, step, count = low_x.shape
    left, top, right, bottom = _split_in_four(truths_xyxy_px.reshape(batch, 4 * step, 1))
    area = (right - left) * (bottom - top)
    cost = share * area + _NO_TRUTH * ops.cast(area <= 0, ms.float32)
    tiling = (1, 1, count)
    width = ops.minimum(high_x, ops.tile(right, tiling)) - ops.maximum(
        low_x, ops.tile(left, tiling)
    )
    height = ops.minimum(high_y, ops.tile(bottom, tiling)) - ops.maximum(
        low_y, ops.tile(top, tiling)
    )
    # One relu is enough: where the boxes are apart in y the product is not positive.
    return ops.relu(width) * height - ops.tile(cost, tiling)

"""The graph's decode: logits -> boxes in input pixels, planar (one tensor per coordinate).

The numpy decode for evaluation is `mindyolo_v4.anchors.decode_boxes`; a test holds the two equal.
"""

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from mindyolo_v4.anchors import MAX_SIZE_LOGIT, AnchorSet

Planes = tuple[Tensor, Tensor, Tensor, Tensor]
Cut = Callable[[Tensor, int], Tensor]

concat_predictions = ops.Concat(2)  # of arrays (B, anything, N)
split_in_four = ops.Split(1, 4)


def prediction_constants(anchors: AnchorSet, img_size: int) -> tuple[np.ndarray, ...]:
    """Return what the decode needs: offset x, offset y, gain, anchor width, anchor height.

    Each is float32 (N,), pixels, for N predictions in the order of `losses.assign`.
    b_x = offset + gain sigma(t_x) is (i + s sigma(t_x) - (s - 1) / 2) stride, with
    offset = (i - (s - 1) / 2) stride and gain = s stride.
    """
    blocks = []
    for level in anchors.levels:
        side = img_size // level.stride
        row, column = np.divmod(np.arange(side * side), side)
        shift = (level.scale_x_y - 1) / 2
        for width, height in level.anchors_wh_px:
            block = np.empty((5, side * side))
            block[0] = (column - shift) * level.stride
            block[1] = (row - shift) * level.stride
            block[2] = level.scale_x_y * level.stride
            block[3] = width
            block[4] = height
            blocks.append(block)
    return tuple(np.concatenate(blocks, axis=1).astype(np.float32))


def of_level(values: Sequence[float], anchors: AnchorSet, img_size: int) -> np.ndarray:
    """Return for each prediction the value of its level: float32 (N,)."""
    counts = [len(level.anchor_ids) * (img_size // level.stride) ** 2 for level in anchors.levels]
    return np.repeat(np.array(values, np.float32), counts)


def decode_planes(logits: Planes, constants: tuple[Tensor, ...], square: bool = False) -> Planes:
    """Decode t_x, t_y, t_w, t_h to centre and size in pixels; `constants` broadcast against them.

    Equals darknet's `get_yolo_box` with `scale_x_y`; t_w and t_h are clamped to MAX_SIZE_LOGIT.
    `square`: sizes are a (2 sigma(t))^2 as in scaled YOLOv4.
    """
    t_x, t_y, t_w, t_h = logits
    offset_x, offset_y, gain, anchor_w, anchor_h = constants
    x = offset_x + gain * ops.sigmoid(t_x)
    y = offset_y + gain * ops.sigmoid(t_y)
    if square:
        half_w = ops.sigmoid(t_w)
        half_h = ops.sigmoid(t_h)
        return x, y, anchor_w * (4.0 * half_w * half_w), anchor_h * (4.0 * half_h * half_h)
    w = anchor_w * ops.exp(ops.clamp(t_w, max=MAX_SIZE_LOGIT))
    h = anchor_h * ops.exp(ops.clamp(t_h, max=MAX_SIZE_LOGIT))
    return x, y, w, h


def split_anchors(
    raw_maps: tuple[Tensor, ...], anchors_per_level: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """Reshape raw maps (B, A(5 + C), H, W) to float32 (B, A, 5 + C, H W)."""
    maps = ()
    # The graph parser knows no strict=.
    for raw, count in zip(raw_maps, anchors_per_level):  # noqa: B905
        batch, channels, height, width = raw.shape
        shape = (batch, count, channels // count, height * width)
        maps += (ops.cast(raw, ms.float32).reshape(shape),)
    return maps


def prediction_plane(maps: tuple[Tensor, ...], channel: int, cut: Cut) -> Tensor:
    """Return one channel of all predictions (B, 1, N) from the maps of `split_anchors`.

    `cut`: `slice_channel` or `strided_channel`.
    """
    levels = ()
    for level_map in maps:
        batch, anchors, _, cells = level_map.shape
        levels += (cut(level_map, channel).reshape(batch, 1, anchors * cells),)
    return concat_predictions(levels)


def slice_channel(level_map: Tensor, channel: int) -> Tensor:
    """Return one channel (B, A, 1, H W) of a map (B, A, 5 + C, H W): the form for the CPU.

    StridedSlice, the form for other devices, takes seven times as long on CPU. On Ascend, MindSpore
    gives the gradient of Slice, this form, to the AI CPU.
    """
    batch, anchors, _, cells = level_map.shape
    return ops.slice(level_map, (0, 0, channel, 0), (batch, anchors, 1, cells))


def strided_channel(level_map: Tensor, channel: int) -> Tensor:
    """Return what `slice_channel` does, in the form for other devices."""
    batch, anchors, _, cells = level_map.shape
    end = (batch, anchors, channel + 1, cells)
    return ops.strided_slice(level_map, (0, 0, channel, 0), end, (1, 1, 1, 1))


def box_logits(maps: tuple[Tensor, ...]) -> Planes:
    """Return t_x, t_y, t_w, t_h of all predictions from the maps of `split_anchors`: CPU form.

    The form for other devices has a third of the operators, and transposes.
    """
    planes = ()
    for channel in range(4):
        planes += (prediction_plane(maps, channel, slice_channel),)
    return planes


def box_logits_transposed(maps: tuple[Tensor, ...]) -> Planes:
    """Return what `box_logits` does, in the form for other devices."""
    levels = ()
    for level_map in maps:
        batch, anchors, _, cells = level_map.shape
        box = ops.slice(level_map, (0, 0, 0, 0), (batch, anchors, 4, cells))
        levels += (ops.transpose(box, (0, 2, 1, 3)).reshape(batch, 4, anchors * cells),)
    return split_in_four(concat_predictions(levels))

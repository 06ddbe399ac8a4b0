"""The values of the matched predictions, in a form for the CPU and one for other devices.

The forms are equal. On CPU, values are gathered one by one, because a transposition of the maps
takes longer. On Ascend, rows are gathered from transposed maps: the gradient of a gather adds its
rows to zeros, and its time depends on their number more than on their length.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindyolo_v4.anchors import AnchorSet

BOX_AND_OBJECTNESS = 5  # planes t_x, t_y, t_w, t_h, t_o before those of the classes

Matched = tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]


class GatheredValues(nn.Cell):
    """Read the matched predictions value by value: the form for the CPU.

    Args:
        constants: those of `losses.decode.prediction_constants`.
        img_size: side of the square input, pixels.
    """

    def __init__(
        self, constants: tuple[Tensor, ...], anchors: AnchorSet, num_classes: int, img_size: int
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.constants = constants

        # Where the raw maps, flattened and concatenated, hold each prediction.
        channels = BOX_AND_OBJECTNESS + num_classes
        starts, steps = _map_layout(anchors, img_size, channels)
        self.map_values = len(starts) * channels
        self.map_start = Tensor(starts, ms.int32)
        self.map_step = Tensor(steps, ms.int32)
        self.channel = Tensor(np.arange(channels).reshape(1, -1, 1), ms.int32)
        self.concat_values = ops.Concat(1)
        self.each = ops.HyperMap()

    def construct(self, maps: tuple[Tensor, ...], prediction: Tensor) -> Matched:
        """Return what the loss reads of the matches.

        Args:
            maps: result of `losses.decode.split_anchors`.
            prediction: int32 (B, 1, P).

        Returns:
            t_x, t_y, t_w, t_h, t_o, each (B, 1, P); class logits (B, C, P); the constants, each
            (B, 1, P).
        """
        batch, _, matches = prediction.shape
        flat = self.concat_values(self.each(ops.partial(_flatten_images, batch), maps))
        _require_size(flat.shape[1], self.map_values)

        # One gather of all channels of all matches: (B, 5 + C, P).
        image = ops.cast(ops.range(0, batch, 1), ms.int32).reshape(batch, 1, 1) * flat.shape[1]
        start = ops.gather(self.map_start, prediction, 0) + image
        index = start + self.channel * ops.gather(self.map_step, prediction, 0)
        logits = ops.gather(flat.reshape(-1), index, 0)

        planes = ()
        for channel in range(BOX_AND_OBJECTNESS):
            planes += (ops.slice(logits, (0, channel, 0), (batch, 1, matches)),)
        size = (batch, self.num_classes, matches)
        classes = ops.slice(logits, (0, BOX_AND_OBJECTNESS, 0), size)
        constants = self.each(ops.partial(_of_predictions, prediction), self.constants)
        return planes, classes, constants


class GatheredRows(nn.Cell):
    """Read the matched predictions as rows of 5 + C values: the form for other devices."""

    def __init__(self, constants: tuple[Tensor, ...], num_classes: int) -> None:
        super().__init__()
        table = np.stack([plane.asnumpy() for plane in constants], axis=1)  # (N, 5)
        self.constants = Tensor(table)
        self.predictions = len(table)
        self.channels = BOX_AND_OBJECTNESS + num_classes
        self.concat_rows = ops.Concat(1)
        self.split_planes = ops.Split(1, BOX_AND_OBJECTNESS)
        self.split_constants = ops.Split(1, len(constants))
        self.each = ops.HyperMap()

    def construct(self, maps: tuple[Tensor, ...], prediction: Tensor) -> Matched:
        """Return what `GatheredValues` does."""
        batch, _, matches = prediction.shape
        rows = self.concat_rows(self.each(_rows_of_predictions, maps))  # (B, N, 5 + C)
        _require_size(rows.size, batch * self.predictions * self.channels)

        image = ops.cast(ops.range(0, batch, 1), ms.int32).reshape(batch, 1, 1) * self.predictions
        index = (prediction + image).reshape(-1)
        logits = ops.gather(rows.reshape(-1, self.channels), index, 0)  # (B P, 5 + C)
        logits = _as_planes(logits, batch)  # (B, 5 + C, P)

        # Strided slices: MindSpore gives the gradient of ops.slice to the AI CPU.
        strides = (1, 1, 1)
        first = (batch, BOX_AND_OBJECTNESS, matches)
        planes = self.split_planes(ops.strided_slice(logits, (0, 0, 0), first, strides))
        start = (0, BOX_AND_OBJECTNESS, 0)
        classes = ops.strided_slice(logits, start, (batch, self.channels, matches), strides)
        constants = ops.gather(self.constants, prediction.reshape(-1), 0)  # (B P, 5)
        return planes, classes, self.split_constants(_as_planes(constants, batch))


def gather_class(scores: Tensor, class_ids: Tensor) -> Tensor:
    """Return the scores of given classes: (B, C, ...) and int32 (B, K, ...) -> (B, K, ...).

    This is the form for the CPU. On Ascend, MindSpore gives its gradient to the AI CPU.
    """
    return ops.gather_elements(scores, 1, class_ids)


def select_class(scores: Tensor, class_ids: Tensor) -> Tensor:
    """Return what `gather_class` does as a sum over one-hot vectors: the form for other devices."""
    shape = (1, 1, -1) + (1,) * (scores.ndim - 2)
    numbers = ops.cast(ops.range(0, scores.shape[1], 1), ms.int32).reshape(shape)
    one_hot = ops.cast(ops.equal(class_ids.expand_dims(2), numbers), scores.dtype)  # (B, K, C, ...)
    return ops.sum(scores.expand_dims(1) * one_hot, dim=2)


def _flatten_images(batch: int, level_map: Tensor) -> Tensor:
    return level_map.reshape(batch, -1)


def _of_predictions(prediction: Tensor, plane: Tensor) -> Tensor:
    return ops.gather(plane, prediction, 0)


def _rows_of_predictions(level_map: Tensor) -> Tensor:
    """Return (B, A H W, 5 + C) of a map (B, A, 5 + C, H W)."""
    batch, anchors, channels, cells = level_map.shape
    return ops.transpose(level_map, (0, 1, 3, 2)).reshape(batch, anchors * cells, channels)


def _as_planes(rows: Tensor, batch: int) -> Tensor:
    """Return (B, K, P) of rows (B P, K)."""
    return ops.transpose(rows.reshape(batch, -1, rows.shape[1]), (0, 2, 1))


def _require_size(size: int, expected: int) -> None:
    if size != expected:
        raise ValueError("the raw maps are not those of the loss's image size, anchors and classes")


def _map_layout(anchors: AnchorSet, img_size: int, channels: int) -> tuple[list[int], list[int]]:
    """Return the position of each prediction's channel 0, and the distance between its channels.

    Positions are those in an image's raw maps, flattened and concatenated.
    """
    starts: list[int] = []
    steps: list[int] = []
    base = 0
    for level in anchors.levels:
        cells = (img_size // level.stride) ** 2
        for _ in level.anchor_ids:
            starts += range(base, base + cells)
            steps += [cells] * cells
            base += channels * cells
    return starts, steps

"""The detector loss: box, objectness and class terms, summed over cells, mean over images."""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.losses.assign import (
    MATCH_IDS,
    MATCH_VALUES,
    WEIGHT_BOX,
    WEIGHT_CLASS,
    WEIGHT_OBJECT,
)
from mindyolo_v4.losses.decode import (
    concat_predictions,
    decode_planes,
    prediction_constants,
    prediction_plane,
    split_anchors,
)
from mindyolo_v4.losses.ignore import overlaps_target
from mindyolo_v4.losses.iou import box_similarity

_BOX_CHANNELS = (0, 1, 2, 3)
_OBJECT_CHANNEL = 4
_CLASS_CHANNELS = 5  # the first of them


class DetectionLoss(nn.Cell):
    """Compare raw maps with the tables of `losses.assign.Assigner`, as darknet's yolo layer does.

    box = box_gain sum w (1 - CIoU) over matches (CIoU: Zheng et al. 2020); objectness = obj_gain
    sum BCE over predictions, with target 1 at matches and 0 elsewhere, without the ignored ones;
    class = cls_gain sum_c BCE over matched predictions, with target y (1 - e) + e / 2. Each is
    divided by the B images that the device holds. The gradient of objectness and class is darknet's
    delta with opposite sign, over B; the box gradient is that of the true CIoU.

    BCE(t, y) = softplus(t) - y t. Padding rows have weight 0 in every term.
    """

    part_names = ("loss_box", "loss_obj", "loss_cls")

    def __init__(
        self, anchors: AnchorSet, num_classes: int, img_size: int, loss: LossConfig
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.anchors_per_level = tuple(len(level.anchor_ids) for level in anchors.levels)
        self.square_sizes = anchors.levels[0].box_decode == "square"
        self.box_kind = loss.box
        self.gains = (loss.box_gain, loss.obj_gain, loss.cls_gain)
        self.smoothing = loss.label_smoothing
        self.ignore_threshold = loss.ignore_threshold
        self.ignore_class_logit = _logit(loss.ignore_class_threshold)
        self.constants = tuple(Tensor(values) for values in prediction_constants(anchors, img_size))

        # Where the raw maps, flattened and concatenated, hold each prediction.
        sides = tuple(img_size // level.stride for level in anchors.levels)
        starts, steps = _map_layout(sides, self.anchors_per_level, 5 + num_classes)
        self.map_values = len(starts) * (5 + num_classes)
        self.map_start = Tensor(starts, ms.int32)
        self.map_step = Tensor(steps, ms.int32)
        self.channel = Tensor(np.arange(_CLASS_CHANNELS + num_classes).reshape(1, -1, 1), ms.int32)

        # Primitives, here and in the other files: ops.split, ops.concat, ops.amax and indices are
        # Python that is compiled and differentiated with the graph, and take as long to compile as
        # all the rest of the loss.
        self.split_ids = ops.Split(1, MATCH_IDS)
        self.split_values = ops.Split(1, MATCH_VALUES)
        self.concat_values = ops.Concat(1)
        self.greatest = ops.ReduceMax()
        self.each = ops.HyperMap()

    def construct(
        self,
        raw_maps: tuple[Tensor, ...],
        match_ids: Tensor,
        match_values: Tensor,
        targets_xyxy_px: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the total and its parts (box, objectness, class), float32 scalars.

        Args:
            raw_maps: (B, A(5 + C), H, W) per level, smallest stride first.
            match_ids: int32 (B, 2, P).
            match_values: float32 (B, 7, P).
            targets_xyxy_px: float32 (B, 4, T).
        """
        maps = split_anchors(raw_maps, self.anchors_per_level)
        prediction, class_id = self.split_ids(match_ids)  # (B, 1, P), as all planes of matches
        values = self.split_values(match_values)
        logits, classes = self._matched_logits(maps, prediction)
        trained = self._trained_as_background(maps, targets_xyxy_px)

        box = self._box_term(logits, prediction, values)
        obj = self._objectness_term(maps, logits, prediction, values[WEIGHT_OBJECT], trained)
        cls = self._class_term(classes, class_id, values)

        images = match_ids.shape[0]
        box = box * (self.gains[0] / images)
        obj = obj * (self.gains[1] / images)
        cls = cls * (self.gains[2] / images)
        return box + obj + cls, (box, obj, cls)

    def _matched_logits(
        self, maps: tuple[Tensor, ...], prediction: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return t_x, t_y, t_w, t_h, t_o of the matches, each (B, 1, P); classes (B, C, P)."""
        batch, _, matches = prediction.shape
        flat = self.concat_values(self.each(ops.partial(_flatten_images, batch), maps))
        if flat.shape[1] != self.map_values:
            raise ValueError(
                "the raw maps are not those of the loss's image size, anchors and classes"
            )

        # One gather of all channels of all matches: (B, 5 + C, P).
        image = ops.cast(ops.range(0, batch, 1), ms.int32).reshape(batch, 1, 1) * flat.shape[1]
        start = ops.gather(self.map_start, prediction, 0) + image
        index = start + self.channel * ops.gather(self.map_step, prediction, 0)
        logits = ops.gather(flat.reshape(-1), index, 0)

        planes = ()
        for channel in range(_CLASS_CHANNELS):
            planes += (ops.slice(logits, (0, channel, 0), (batch, 1, matches)),)
        classes = (batch, self.num_classes, matches)
        return planes, ops.slice(logits, (0, _CLASS_CHANNELS, 0), classes)

    def _trained_as_background(self, maps: tuple[Tensor, ...], targets_xyxy_px: Tensor) -> Tensor:
        """Return 0 where the ignore rule holds, else 1: (B, 1, N), without gradient."""
        fixed = self.each(ops.stop_gradient, maps)
        planes = ()
        for channel in _BOX_CHANNELS:
            planes += (prediction_plane(fixed, channel),)
        boxes = decode_planes(planes, self.constants, self.square_sizes)
        ignored = overlaps_target(boxes, targets_xyxy_px, self.ignore_threshold)

        # darknet's further condition: the best class exceeds a threshold.
        if self.ignore_class_logit is not None:
            levels = ()
            for level_map in fixed:
                batch, anchors, _, cells = level_map.shape
                size = (batch, anchors, self.num_classes, cells)
                logits = ops.slice(level_map, (0, 0, _CLASS_CHANNELS, 0), size)
                levels += (self.greatest(logits, 2).reshape(batch, 1, anchors * cells),)
            ignored = ops.logical_and(ignored, concat_predictions(levels) > self.ignore_class_logit)
        return 1.0 - ops.stop_gradient(ignored.astype(ms.float32))

    def _box_term(
        self, logits: tuple[Tensor, ...], prediction: Tensor, values: tuple[Tensor, ...]
    ) -> Tensor:
        constants = self.each(ops.partial(_of_predictions, prediction), self.constants)
        boxes = decode_planes(logits[:4], constants, self.square_sizes)
        similarity = box_similarity(boxes, values[:4], self.box_kind)
        return ops.sum(values[WEIGHT_BOX] * (1.0 - similarity))

    def _objectness_term(
        self,
        maps: tuple[Tensor, ...],
        logits: tuple[Tensor, ...],
        prediction: Tensor,
        weight: Tensor,
        trained: Tensor,
    ) -> Tensor:
        """Sum BCE(t, 0) over what is not ignored; the first row of a match makes it BCE(t, 1)."""
        background = ops.sum(trained * ops.softplus(prediction_plane(maps, _OBJECT_CHANNEL)))
        matched = logits[_OBJECT_CHANNEL]
        # A match is never ignored: what the rule left out of the background sum is added again.
        restored = (1.0 - ops.gather_elements(trained, 2, prediction)) * ops.softplus(matched)
        return background + ops.sum(weight * (restored - matched))

    def _class_term(self, classes: Tensor, class_id: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        """Sum BCE with target e / 2 over the classes, and add (1 - e) to the own class's target."""
        smoothed = ops.softplus(classes) - self.smoothing / 2 * classes
        negatives = ops.sum(smoothed, dim=1, keepdim=True)
        own = ops.gather_elements(classes, 1, class_id)
        positives = (1 - self.smoothing) * ops.sum(values[WEIGHT_CLASS] * own)
        return ops.sum(values[WEIGHT_OBJECT] * negatives) - positives


def _flatten_images(batch: int, level_map: Tensor) -> Tensor:
    return level_map.reshape(batch, -1)


def _of_predictions(prediction: Tensor, plane: Tensor) -> Tensor:
    return ops.gather(plane, prediction, 0)


def _logit(probability: float | None) -> float | None:
    """Return the logit of the class condition; infinite at 0 and 1, None without a condition."""
    if probability in (None, 0.0, 1.0):
        return {None: None, 0.0: -math.inf, 1.0: math.inf}[probability]
    return math.log(probability / (1 - probability))


def _map_layout(
    sides: tuple[int, ...], anchors_per_level: tuple[int, ...], channels: int
) -> tuple[list[int], list[int]]:
    """Return the position of each prediction's channel 0, and the distance between its channels.

    Positions are those in an image's raw maps, flattened and concatenated.
    """
    starts: list[int] = []
    steps: list[int] = []
    base = 0
    for side, anchors in zip(sides, anchors_per_level, strict=True):
        cells = side * side
        for _ in range(anchors):
            starts += range(base, base + cells)
            steps += [cells] * cells
            base += channels * cells
    return starts, steps

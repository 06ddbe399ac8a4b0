"""The detector loss: box, objectness and class terms, summed over cells, mean over images."""

import math

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.cpu_ops.device import on_cpu
from mindyolo_v4.errors import require
from mindyolo_v4.losses.assign import (
    MATCH_IDS,
    MATCH_VALUES,
    WEIGHT_BOX,
    WEIGHT_CLASS,
    WEIGHT_OBJECT,
)
from mindyolo_v4.losses.box_term import BoxTerm
from mindyolo_v4.losses.cross_entropy import cross_entropy
from mindyolo_v4.losses.darknet import behind_logistic, focal_weight, of_same_prediction
from mindyolo_v4.losses.decode import (
    box_logits,
    box_logits_transposed,
    concat_predictions,
    decode_planes,
    of_level,
    prediction_constants,
    prediction_plane,
    slice_channel,
    split_anchors,
    strided_channel,
)
from mindyolo_v4.losses.ignore import broadcast_greatest, overlaps_target, tiled_greatest
from mindyolo_v4.losses.matched import GatheredRows, GatheredValues, gather_class, select_class

_OBJECT_CHANNEL = 4
_CLASS_CHANNELS = 5  # the first of them


class DetectionLoss(nn.Cell):
    """Compare raw maps with the tables of `losses.assign.Assigner`, as darknet's yolo layer does.

    box = box_gain sum w (1 - CIoU) over matches (CIoU: Zheng et al. 2020); objectness = obj_gain
    sum BCE over predictions, with target 1 at matches and 0 elsewhere, without the ignored ones;
    class = cls_gain sum_c BCE over matched predictions, with target y (1 - e) + e / 2. Each is
    divided by the B images that the device holds. The gradient of objectness and class is darknet's
    delta with opposite sign, over B; the box gradient is that of the true CIoU, or with
    `loss.gradient: darknet` darknet's own.

    BCE(t, y) = softplus(t) - y t. Padding rows have weight 0 in every term. The other keys of
    `LossConfig` change the terms; where all have their defaults, the graph does not contain them.

    Args:
        img_size: side of the square input, pixels.
        for_cpu: which forms of the operators to use, those for the CPU or those for other devices;
            None: those of the current device. The results are equal to rounding.
    """

    part_names = ("loss_box", "loss_obj", "loss_cls")

    def __init__(
        self,
        anchors: AnchorSet,
        num_classes: int,
        img_size: int,
        loss: LossConfig,
        for_cpu: bool | None = None,
    ) -> None:
        super().__init__()
        _require_count("loss.class_weights", loss.class_weights, num_classes)
        _require_count("loss.obj_balance", loss.obj_balance, len(anchors.levels))
        self.num_classes = num_classes
        self.anchors_per_level = tuple(len(level.anchor_ids) for level in anchors.levels)
        self.square_sizes = anchors.levels[0].box_decode == "square"
        self.box_term = BoxTerm(anchors, img_size, loss)
        self.gains = (loss.obj_gain, loss.cls_gain)
        self.smoothing = loss.label_smoothing
        self._set_options(loss, anchors, img_size)
        self.ignore_threshold = loss.ignore_threshold
        self.ignore_class_logit = _logit(loss.ignore_class_threshold)
        self.constants = tuple(Tensor(values) for values in prediction_constants(anchors, img_size))

        if on_cpu() if for_cpu is None else for_cpu:
            self.matched = GatheredValues(self.constants, anchors, num_classes, img_size)
            self.class_score = gather_class
            self.cut = slice_channel
            self.box_logits = box_logits
            self.greatest_score = tiled_greatest
        else:
            self.matched = GatheredRows(self.constants, num_classes)
            self.class_score = select_class
            self.cut = strided_channel
            self.box_logits = box_logits_transposed
            self.greatest_score = broadcast_greatest

        # Primitives, here and in the other files: ops.split, ops.concat, ops.amax and indices are
        # Python that is compiled and differentiated with the graph, and take as long to compile as
        # all the rest of the loss.
        self.split_ids = ops.Split(1, MATCH_IDS)
        self.split_values = ops.Split(1, MATCH_VALUES)
        self.greatest = ops.ReduceMax()
        self.each = ops.HyperMap()

    def _set_options(self, loss: LossConfig, anchors: AnchorSet, img_size: int) -> None:
        """Keep the options of objectness and classes, and whether a term has its plain form."""
        darknet = loss.gradient == "darknet"
        self.behind_logistic = darknet and self.square_sizes
        self.objectness_smooth = loss.objectness_smooth
        self.matches_have_target = not (darknet and loss.objectness_smooth)
        self.iou_target = loss.objectness_target == "iou"
        self.balance = None
        if loss.obj_balance is not None:
            self.balance = Tensor(of_level(loss.obj_balance, anchors, img_size))

        weights = loss.class_weights
        self.class_weights = None if weights is None else Tensor(weights, ms.float32)
        self.darknet_focal = darknet and loss.focal_gamma is not None
        self.gamma = None if darknet else loss.focal_gamma

        unweighted = weights is None and self.gamma is None
        is_soft = self.iou_target or self.objectness_smooth
        self.plain_objectness = unweighted and self.balance is None and not is_soft
        self.plain_classes = unweighted and not self.darknet_focal

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
        if self.behind_logistic:
            maps = self.each(behind_logistic, maps)
        prediction, class_id = self.split_ids(match_ids)  # (B, 1, P), as all planes of matches
        values = self.split_values(match_values)
        logits, classes, constants = self.matched(maps, prediction)
        background = self._background(maps, targets_xyxy_px)

        class_weight = 1.0
        if self.class_weights is not None:
            class_weight = ops.gather(self.class_weights, class_id, 0)
        box, similarity = self.box_term(
            logits[:4], constants, values[:4], prediction, values[WEIGHT_BOX], class_weight
        )

        if self.plain_objectness:
            obj = self._objectness_term(maps, logits, prediction, values[WEIGHT_OBJECT], background)
        else:
            target = 1.0
            if self.iou_target:
                target = ops.clamp(ops.stop_gradient(similarity), 0.0, 1.0)
            positive = (values[WEIGHT_OBJECT], class_weight, target)
            obj = self._general_objectness(maps, logits, prediction, positive, background)

        if self.plain_classes:
            cls = self._class_term(classes, class_id, values)
        else:
            cls = self._general_classes(classes, class_id, prediction, values, class_weight)

        images = match_ids.shape[0]
        obj = obj * (self.gains[0] / images)
        cls = cls * (self.gains[1] / images)
        return box + obj + cls, (box, obj, cls)

    def _background(self, maps: tuple[Tensor, ...], targets_xyxy_px: Tensor) -> Tensor:
        """Return how each prediction is trained as background: (B, 1, N), without gradient.

        0 where the ignore rule holds, else 1. With `objectness_smooth` the target of each: the best
        IoU where the rule holds, else 0.
        """
        fixed = self.each(ops.stop_gradient, maps)
        boxes = decode_planes(self.box_logits(fixed), self.constants, self.square_sizes)
        overlap = 1.0
        if self.objectness_smooth:
            overlap = self.greatest_score(boxes, targets_xyxy_px, None)  # the best IoU
            ignored = overlap > self.ignore_threshold
        else:
            threshold = self.ignore_threshold
            ignored = overlaps_target(boxes, targets_xyxy_px, threshold, self.greatest_score)

        # darknet's further condition: the best class exceeds a threshold.
        if self.ignore_class_logit is not None:
            levels = ()
            for level_map in fixed:
                batch, anchors, _, cells = level_map.shape
                size = (batch, anchors, self.num_classes, cells)
                logits = ops.slice(level_map, (0, 0, _CLASS_CHANNELS, 0), size)
                levels += (self.greatest(logits, 2).reshape(batch, 1, anchors * cells),)
            ignored = ops.logical_and(ignored, concat_predictions(levels) > self.ignore_class_logit)
        if self.objectness_smooth:
            return ops.stop_gradient(overlap * ignored.astype(ms.float32))
        return 1.0 - ops.stop_gradient(ignored.astype(ms.float32))

    def _objectness_term(
        self,
        maps: tuple[Tensor, ...],
        logits: tuple[Tensor, ...],
        prediction: Tensor,
        weight: Tensor,
        trained: Tensor,
    ) -> Tensor:
        """Sum BCE(t, 0) over what is not ignored; the first row of a match makes it BCE(t, 1)."""
        objectness = prediction_plane(maps, _OBJECT_CHANNEL, self.cut)
        background = ops.sum(trained * ops.softplus(objectness))
        matched = logits[_OBJECT_CHANNEL]
        # A match is never ignored: what the rule left out of the background sum is added again.
        restored = (1.0 - ops.gather_elements(trained, 2, prediction)) * ops.softplus(matched)
        return background + ops.sum(weight * (restored - matched))

    def _class_term(self, classes: Tensor, class_id: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        """Sum BCE with target e / 2 over the classes, and add (1 - e) to the own class's target."""
        smoothed = ops.softplus(classes) - self.smoothing / 2 * classes
        negatives = ops.sum(smoothed, dim=1, keepdim=True)
        own = self.class_score(classes, class_id)
        positives = (1 - self.smoothing) * ops.sum(values[WEIGHT_CLASS] * own)
        return ops.sum(values[WEIGHT_OBJECT] * negatives) - positives

    def _general_objectness(
        self,
        maps: tuple[Tensor, ...],
        logits: tuple[Tensor, ...],
        prediction: Tensor,
        positive: tuple[Tensor, ...],
        background: Tensor,
    ) -> Tensor:
        """Sum BCE(t, y) over all as background, and replace it at the first row of a match.

        Args:
            positive: of the matches, weight of the row, of the class, and objectness target.
        """
        objectness = prediction_plane(maps, _OBJECT_CHANNEL, self.cut)
        matched = logits[_OBJECT_CHANNEL]
        row_weight, class_weight, target = positive
        there = ops.gather_elements(background, 2, prediction)
        if self.objectness_smooth:
            every = cross_entropy(objectness, background, self.gamma)
            replaced = cross_entropy(matched, there, self.gamma)
        else:
            every = background * cross_entropy(objectness, 0.0, self.gamma)
            replaced = there * cross_entropy(matched, 0.0, self.gamma)
        if self.balance is not None:
            every = every * self.balance
            row_weight = row_weight * ops.gather(self.balance, prediction, 0)
        if not self.matches_have_target:
            return ops.sum(every)
        own = class_weight * cross_entropy(matched, target, self.gamma)
        return ops.sum(every) + ops.sum(row_weight * (own - replaced))

    def _general_classes(
        self,
        classes: Tensor,
        class_id: Tensor,
        prediction: Tensor,
        values: tuple[Tensor, ...],
        class_weight: Tensor,
    ) -> Tensor:
        """Sum BCE with target e / 2 over the classes, and replace it at the own class."""
        wrong_target = self.smoothing / 2
        own = self.class_score(classes, class_id)
        every = ops.sum(cross_entropy(classes, wrong_target, self.gamma), dim=1, keepdim=True)
        true = class_weight * cross_entropy(own, 1 - wrong_target, self.gamma)
        replaced = cross_entropy(own, wrong_target, self.gamma)
        first = values[WEIGHT_OBJECT]
        if self.darknet_focal:
            factor = first * focal_weight(own)
            every = factor * every
            true = (factor + 1 - first) * true
            replaced = of_same_prediction(factor, prediction) * replaced
        return ops.sum(first * every) + ops.sum(values[WEIGHT_CLASS] * (true - replaced))


def _require_count(key: str, values: tuple[float, ...] | None, count: int) -> None:
    """Raise UserError where there are values, but not `count`."""
    if values is not None:
        require(len(values) == count, key, "wrong count", len(values), count)


def _logit(probability: float | None) -> float | None:
    """Return the logit of the class condition; infinite at 0 and 1, None without a condition."""
    if probability in (None, 0.0, 1.0):
        return {None: None, 0.0: -math.inf, 1.0: math.inf}[probability]
    return math.log(probability / (1 - probability))

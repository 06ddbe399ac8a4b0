"""The detector loss: box, objectness and class terms, summed over cells and classes, mean over images."""

import math

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.losses.assign import WEIGHT_BOX, WEIGHT_CLASS, WEIGHT_OBJECT
from mindyolo_v4.losses.decode import decode_planes, prediction_constants, prediction_plane, split_anchors
from mindyolo_v4.losses.ignore import fits_a_truth
from mindyolo_v4.losses.iou import box_similarity
from mindyolo_v4.schema.loss import LossConfig

_BOX_CHANNELS = (0, 1, 2, 3)
_OBJECT_CHANNEL = 4
_CLASS_CHANNELS = 5  # the first of them


class DetectionLoss(nn.Cell):
    """Score raw maps against the tables of `losses.assign.Assigner` (darknet's yolo layer; CIoU: Zheng et al. 2020).

    box = box_gain sum w (1 - CIoU) over matches; objectness = obj_gain sum BCE over predictions, 1 at matches, 0
    elsewhere, ignored ones left out; class = cls_gain sum_c BCE over matched predictions, with target
    y (1 - e) + e / 2. Each is divided by the B images that the device holds. The gradient of objectness and class is
    darknet's delta with opposite sign, over B; the box gradient is that of the true CIoU.

    Padding has weight 0 on its terms; BCE(t, y) = softplus(t) - y t.
    """

    part_names = ("loss_box", "loss_obj", "loss_cls")

    def __init__(self, anchors: AnchorSet, num_classes: int, img_size: int, loss: LossConfig) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.anchors_a_level = tuple(len(level.anchor_ids) for level in anchors.levels)
        self.square_sizes = anchors.levels[0].box_decode == "square"
        self.box_kind = loss.box
        self.gains = (loss.box_gain, loss.obj_gain, loss.cls_gain)
        self.smoothing = loss.label_smoothing
        self.ignore_threshold = loss.ignore_threshold
        self.ignore_class_logit = _logit(loss.ignore_class_threshold)
        self.constants = tuple(Tensor(values) for values in prediction_constants(anchors, img_size))
        sides = tuple(img_size // level.stride for level in anchors.levels)
        starts, steps = _map_layout(sides, self.anchors_a_level, 5 + num_classes)
        self.map_values = sum(a * (5 + num_classes) * s * s for a, s in zip(self.anchors_a_level, sides, strict=True))
        self.map_start = Tensor(starts, ms.int32)
        self.map_step = Tensor(steps, ms.int32)

    def construct(
        self, raw_maps: tuple[Tensor, ...], match_ids: Tensor, match_values: Tensor, truths_xyxy_px: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the total and its parts (box, objectness, class), float32 scalars.

        Args:
            raw_maps: (B, A (5 + C), H, W) a level, smallest stride first.
            match_ids: int32 (B, 2, P); match_values: float32 (B, 7, P); truths_xyxy_px: float32 (B, 4, T).
        """
        maps = split_anchors(raw_maps, self.anchors_a_level)
        prediction, class_id = ops.split(match_ids, 1, axis=1)  # (B, 1, P) each, as all planes of the matches
        values = ops.split(match_values, 1, axis=1)
        logits = self._matched_logits(maps, prediction)
        trained = self._trained_as_background(maps, truths_xyxy_px)
        box = self._box_term(logits, prediction, values)
        obj = self._objectness_term(maps, logits, prediction, values[WEIGHT_OBJECT], trained)
        cls = self._class_term(logits, class_id, values)
        images = match_ids.shape[0]
        box, obj, cls = (
            box * (self.gains[0] / images),
            obj * (self.gains[1] / images),
            cls * (self.gains[2] / images),
        )
        return box + obj + cls, (box, obj, cls)

    def _matched_logits(self, maps: tuple[Tensor, ...], prediction: Tensor) -> tuple[Tensor, ...]:
        """Gather the logits of the matches: t_x, t_y, t_w, t_h, t_o each (B, 1, P), and the classes (B, C, P)."""
        batch = prediction.shape[0]
        levels = ()
        for level_map in maps:
            levels += (level_map.reshape(batch, -1),)
        flat = ops.concat(levels, axis=1)  # (B, sum of A (5 + C) H W)
        if flat.shape[1] != self.map_values:
            raise ValueError("the raw maps are not those of the loss's image size, anchors and classes")
        image = ops.arange(0, batch).astype(ms.int32).reshape(batch, 1, 1) * flat.shape[1]
        channel = ops.arange(0, _CLASS_CHANNELS + self.num_classes).astype(ms.int32).reshape(1, -1, 1)
        start = ops.gather(self.map_start, prediction, 0) + image
        index = start + channel * ops.gather(self.map_step, prediction, 0)
        logits = ops.gather(flat.reshape(-1), index, 0)  # (B, 5 + C, P)
        return ops.split(logits, [1, 1, 1, 1, 1, self.num_classes], axis=1)

    def _trained_as_background(self, maps: tuple[Tensor, ...], truths_xyxy_px: Tensor) -> Tensor:
        """Return 0 where the ignore rule holds, else 1: (B, 1, N), without gradient."""
        fixed = ()
        for level_map in maps:
            fixed += (ops.stop_gradient(level_map),)
        planes = ()
        for channel in _BOX_CHANNELS:
            planes += (prediction_plane(fixed, channel),)
        boxes = decode_planes(planes, self.constants, self.square_sizes)
        ignored = fits_a_truth(boxes, truths_xyxy_px, self.ignore_threshold)
        if self.ignore_class_logit is not None:
            levels = ()
            for level_map in fixed:
                best = ops.amax(level_map[:, :, _CLASS_CHANNELS:], axis=2)
                levels += (best.reshape(best.shape[0], 1, -1),)
            ignored = ops.logical_and(ignored, ops.concat(levels, axis=2) > self.ignore_class_logit)
        return 1.0 - ops.stop_gradient(ignored.astype(ms.float32))

    def _box_term(self, logits: tuple[Tensor, ...], prediction: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        constants = ()
        for plane in self.constants:
            constants += (ops.gather(plane, prediction, 0),)
        boxes = decode_planes(logits[:4], constants, self.square_sizes)
        return ops.sum(values[WEIGHT_BOX] * (1.0 - box_similarity(boxes, values[:4], self.box_kind)))

    def _objectness_term(
        self, maps: tuple[Tensor, ...], logits: tuple[Tensor, ...], prediction: Tensor, weight: Tensor, trained: Tensor
    ) -> Tensor:
        """Sum background BCE over what is not ignored, and turn the first row of each match into BCE(t, 1)."""
        background = ops.sum(trained * ops.softplus(prediction_plane(maps, _OBJECT_CHANNEL)))
        matched = logits[_OBJECT_CHANNEL]
        # A match is never ignored: what the rule took from the background sum comes back.
        restored = (1.0 - ops.gather_elements(trained, 2, prediction)) * ops.softplus(matched)
        return background + ops.sum(weight * (restored - matched))

    def _class_term(self, logits: tuple[Tensor, ...], class_id: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        classes = logits[_CLASS_CHANNELS]  # (B, C, P)
        negatives = ops.sum(ops.softplus(classes) - self.smoothing / 2 * classes, dim=1, keepdim=True)
        own = ops.gather_elements(classes, 1, class_id)
        return ops.sum(values[WEIGHT_OBJECT] * negatives) - (1 - self.smoothing) * ops.sum(values[WEIGHT_CLASS] * own)


def _logit(probability: float | None) -> float | None:
    """Return the logit of the class condition; infinite at 0 and 1, None without a condition."""
    if probability is None:
        return None
    if probability in (0.0, 1.0):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def _map_layout(sides: tuple[int, ...], anchors_a_level: tuple[int, ...], channels: int) -> tuple[list[int], list[int]]:
    """Return where each prediction's channel 0 lies in an image's concatenated raw maps, and the channels' distance."""
    starts, steps, base = [], [], 0
    for side, anchors in zip(sides, anchors_a_level, strict=True):
        cells = side * side
        for anchor in range(anchors):
            first = base + anchor * channels * cells
            starts += range(first, first + cells)
            steps += [cells] * cells
        base += anchors * channels * cells
    return starts, steps

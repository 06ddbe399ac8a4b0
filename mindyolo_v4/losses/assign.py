"""Target assignment in numpy, in the loader's workers: ground truth -> tables of fixed size.

Predictions are numbered through all levels, smallest stride first: n = offset of the level +
a H W + j W + i. A row of the tables is one match of a target with a prediction, and weights say in
which terms of the loss the row counts, so that the loss needs no scatter. Tables are planar (one
plane per coordinate), because the graph slices planes off the front cheaply.
"""

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.boxes import cxcywh_to_xyxy, shape_iou

# Planes of `match_ids` and `match_values`.
MATCH_IDS = 2
MATCH_VALUES = 7
BOX_X, BOX_Y, BOX_W, BOX_H, WEIGHT_BOX, WEIGHT_OBJECT, WEIGHT_CLASS = range(MATCH_VALUES)


class Assigner:
    """Match targets with predictions, as darknet's `forward_yolo_layer` does.

    A target is positive on the best of all anchors (first maximum of the shape IoU) and on every
    anchor whose shape IoU exceeds `anchor_threshold`, on each level that uses the anchor, in the
    cell of its centre. A best anchor that no level uses gives no match.

    Args:
        img_size: side of the square input, pixels.
        max_truths: targets kept per image, T; the tables hold P = T x (level, anchor) pairs rows.
        anchor_threshold: 1 means best anchor only, without averaging (darknet's `iou_thresh=1`).
    """

    def __init__(
        self,
        anchors: AnchorSet,
        img_size: int,
        num_classes: int,
        max_truths: int,
        anchor_threshold: float,
    ) -> None:
        self.img_size = img_size
        self.num_classes = num_classes
        self.max_truths = max_truths
        self.anchor_threshold = anchor_threshold
        self._anchors_wh_px = np.array(anchors.anchors_wh_px, np.float64)

        # One slot per (level, anchor) pair: anchor id, cells per side, first prediction.
        slots = []
        predictions = 0
        for level in anchors.levels:
            side = img_size // level.stride
            for anchor_id in level.anchor_ids:
                slots.append((anchor_id, side, predictions))
                predictions += side * side
        self._slot_anchor, self._slot_side, self._slot_offset = np.array(slots, np.int64).T
        self._num_rows = max_truths * len(slots)

        # Padding rows name predictions all over the maps: a device adds the gradients of one
        # prediction one after the other.
        self._padding = np.arange(self._num_rows) * predictions // self._num_rows

    def __call__(
        self, boxes_cxcywh: NDArray[np.floating], class_ids: NDArray[np.integer]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return the three tables of one image.

        Args:
            boxes_cxcywh: targets (N, 4), centre and size as fractions of the input's side.
            class_ids: (N,).

        Returns:
            match_ids (2, P): prediction, class.
            match_values (7, P): the target's cx, cy, w, h in input pixels; the row's weight in the
                box, objectness and class term. The box weight is 1/m where m classes share a
                prediction; objectness counts the first row of each prediction, class the first
                row of each (prediction, class). Padding has weights 0 and evenly spread
                predictions.
            targets_xyxy_px (4, T): all targets, for the ignore rule; padding is zero boxes.

        Raises:
            ValueError: a class id is outside the classes.
        """
        boxes_px = np.asarray(boxes_cxcywh, np.float64).reshape(-1, 4) * self.img_size
        boxes_px = boxes_px[: self.max_truths]
        classes = np.asarray(class_ids, np.int64).reshape(-1)[: self.max_truths]
        if len(classes) and (classes.min() < 0 or classes.max() >= self.num_classes):
            present = f"{classes.min()}..{classes.max()}"
            raise ValueError(f"class id outside 0..{self.num_classes - 1}: {present}")

        match_ids = np.zeros((MATCH_IDS, self._num_rows), np.int32)
        match_ids[0] = self._padding
        match_values = np.zeros((MATCH_VALUES, self._num_rows), np.float32)
        targets_xyxy_px = np.zeros((4, self.max_truths), np.float32)
        if len(boxes_px):
            target, prediction = self._match(boxes_px)
            rows = len(target)
            match_ids[:, :rows] = prediction, classes[target]
            match_values[BOX_X:WEIGHT_BOX, :rows] = boxes_px[target].T
            match_values[WEIGHT_BOX:, :rows] = self._weights(prediction, classes[target])
            targets_xyxy_px[:, : len(boxes_px)] = cxcywh_to_xyxy(boxes_px).T
        return match_ids, match_values, targets_xyxy_px

    def _match(self, boxes_px: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return target and prediction of each match."""
        # Which anchors each target is positive on.
        iou = shape_iou(boxes_px[:, 2:], self._anchors_wh_px)  # (N, anchors)
        positive = iou > self.anchor_threshold
        positive[np.arange(len(iou)), iou.argmax(axis=1)] = True

        # One match per slot of these anchors.
        target, slot = np.nonzero(positive[:, self._slot_anchor])
        side = self._slot_side[slot]

        # The cell of the centre; a centre on the right or bottom border belongs to the last cell.
        cells = np.floor(boxes_px[target, :2] / self.img_size * side[:, None]).astype(np.int64)
        column, row = np.clip(cells, 0, side[:, None] - 1).T
        return target, self._slot_offset[slot] + row * side + column

    def _weights(
        self, prediction: NDArray[np.int64], classes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return weights (3, rows) as in darknet's `averages_yolo_deltas`."""
        weights = np.zeros((3, len(prediction)))

        # Objectness counts once per prediction.
        distinct, first, index = np.unique(prediction, return_index=True, return_inverse=True)
        weights[1, first] = 1

        # The class term counts once per prediction and class.
        pairs, first_pair = np.unique(index * self.num_classes + classes, return_index=True)
        weights[2, first_pair] = 1

        # The box term is averaged over the classes that share a prediction.
        sharing = np.ones(len(distinct))
        if self.anchor_threshold < 1:
            sharing += np.bincount(pairs // self.num_classes, minlength=len(distinct)) - 1
        weights[0] = 1 / sharing[index]
        return weights


def matched_boxes(
    match_ids: NDArray[np.integer], match_values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the different targets that an image's tables hold: boxes (N, 4) and classes (N,).

    It is what the loss sees of the boxes that `Assigner` was given: corners in input pixels. A
    target without a match is not among them.
    """
    used = match_values[WEIGHT_BOX] > 0
    rows = np.concatenate([match_values[BOX_X:WEIGHT_BOX, used], match_ids[1:, used]])
    targets = np.unique(rows.T.astype(np.float64), axis=0)
    return cxcywh_to_xyxy(targets[:, :4]), targets[:, 4].astype(np.int64)

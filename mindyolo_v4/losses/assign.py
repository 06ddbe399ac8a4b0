"""Target assignment in numpy, in the loader's workers: truths -> static-size tables that the graph's loss takes.

Predictions are numbered through all levels, smallest stride first: n = offset of the level + a H W + j W + i. Nothing
here or in the loss scatters: a row is one (truth, anchor) match, and weights say what the row counts for. Tables are
planar (a plane a coordinate), because the graph cuts planes out of the front cheaply.
"""

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.boxes import cxcywh_to_xyxy, shape_iou

# Planes of `match_ids` and `match_values`.
MATCH_IDS, MATCH_VALUES = 2, 7
BOX_X, BOX_Y, BOX_W, BOX_H, WEIGHT_BOX, WEIGHT_OBJECT, WEIGHT_CLASS = range(MATCH_VALUES)


class Assigner:
    """Match truths with predictions: the cell of the centre, its best anchor and every good one.

    As darknet's `forward_yolo_layer` does.

    A truth is positive on the best of all anchors (first maximum of the shape IoU) and on every anchor whose shape IoU
    exceeds `anchor_threshold`, on each level that uses the anchor. A best anchor that no level uses gives nothing.

    Args:
        img_size: side of the square input, pixels.
        max_truths: truths kept an image, T; the tables hold P = T x (level, anchor) pairs rows.
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
        self.img_size, self.num_classes, self.max_truths = img_size, num_classes, max_truths
        self.anchor_threshold = anchor_threshold
        self._anchors_wh_px = np.array(anchors.anchors_wh_px, np.float64)
        slots = []  # one (level, anchor) pair: anchor id, cells a side, first prediction
        predictions = 0
        for level in anchors.levels:
            side = img_size // level.stride
            for anchor_id in level.anchor_ids:
                slots.append((anchor_id, side, predictions))
                predictions += side * side
        self._slot_anchor, self._slot_side, self._slot_offset = np.array(slots, np.int64).T
        self.num_rows = max_truths * len(slots)

    def dropped(self, count: int) -> int:
        """Return how many of `count` truths of an image are cut."""
        return max(0, count - self.max_truths)

    def __call__(
        self, boxes_cxcywh: NDArray[np.floating], class_ids: NDArray[np.integer]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return the three tables of one image.

        Args:
            boxes_cxcywh: truths (N, 4), centre and size over the input's side.
            class_ids: (N,).

        Returns:
            match_ids (2, P): prediction, class.
            match_values (7, P): truth cx, cy, w, h in input pixels; weight of the row in the box, objectness and class
                term. The box weight is 1/m where m classes share a prediction; objectness counts the first row of each
                prediction, class the first row of each (prediction, class). Padding has prediction 0 and weights 0.
            truths_xyxy_px (4, T): all truths, for the ignore rule; padding is zero boxes.

        Raises:
            ValueError: a class id outside the classes.
        """
        boxes_px = (
            np.asarray(boxes_cxcywh, np.float64).reshape(-1, 4)[: self.max_truths] * self.img_size
        )
        classes = np.asarray(class_ids, np.int64).reshape(-1)[: self.max_truths]
        if len(classes) and (classes.min() < 0 or classes.max() >= self.num_classes):
            raise ValueError(
                f"class id outside 0..{self.num_classes - 1}: {classes.min()}..{classes.max()}"
            )
        match_ids = np.zeros((MATCH_IDS, self.num_rows), np.int32)
        match_values = np.zeros((MATCH_VALUES, self.num_rows), np.float32)
        truths_xyxy_px = np.zeros((4, self.max_truths), np.float32)
        if len(boxes_px):
            truth, prediction = self._match(boxes_px)
            rows = len(truth)
            match_ids[:, :rows] = prediction, classes[truth]
            match_values[BOX_X:WEIGHT_BOX, :rows] = boxes_px[truth].T
            match_values[WEIGHT_BOX:, :rows] = self._weights(prediction, classes[truth])
            truths_xyxy_px[:, : len(boxes_px)] = cxcywh_to_xyxy(boxes_px).T
        return match_ids, match_values, truths_xyxy_px

    def _match(self, boxes_px: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return truth and prediction of each match."""
        iou = shape_iou(boxes_px[:, 2:], self._anchors_wh_px)  # (N, anchors)
        matched = iou > self.anchor_threshold
        matched[np.arange(len(iou)), iou.argmax(axis=1)] = True
        truth, slot = np.nonzero(matched[:, self._slot_anchor])
        side = self._slot_side[slot]
        cells = np.floor(boxes_px[truth, :2] / self.img_size * side[:, None]).astype(np.int64)
        # A centre on the right or bottom border belongs to the last cell.
        column, line = np.clip(cells, 0, side[:, None] - 1).T
        return truth, self._slot_offset[slot] + line * side + column

    def _weights(
        self, prediction: NDArray[np.int64], classes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return box, objectness and class weight of each row (3, rows); darknet's `averages_yolo_deltas`."""
        weights = np.zeros((3, len(prediction)))
        distinct, first, place = np.unique(prediction, return_index=True, return_inverse=True)
        weights[1, first] = 1
        pairs, first_pair = np.unique(place * self.num_classes + classes, return_index=True)
        weights[2, first_pair] = 1
        averaged = self.anchor_threshold < 1
        shared = (
            np.bincount(pairs // self.num_classes, minlength=len(distinct))
            if averaged
            else np.ones(len(distinct))
        )
        weights[0] = 1 / shared[place]
        return weights

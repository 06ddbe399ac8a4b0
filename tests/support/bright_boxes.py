"""A stand-in for a trained network, which sees bright rectangles."""

import cv2
import numpy as np
from mindspore import Tensor

from mindyolo_v4.anchors import AnchorSet

SURE = 6.0  # logit of objectness and class
BRIGHT = 170  # grey level that is above border and background


class BrightBoxes:
    """Takes images (B, 3, H, W) as the compiled network does, and returns maps that decode to the
    bright rectangles in them, all of class 0.
    """

    def __init__(self, anchors: AnchorSet, classes: int):
        self.anchors = anchors
        self.fields = 5 + classes
        self.shapes: list[tuple[int, ...]] = []  # of the calls so far

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        self.shapes.append(images.shape)
        batch, _, height, width = images.shape
        maps = []
        for level in self.anchors.levels:
            cells = (height // level.stride, width // level.stride)
            shape = (batch, len(level.anchor_ids), self.fields, *cells)
            maps.append(np.full(shape, -20.0, np.float32))
        for number, image in enumerate(images.asnumpy()):
            bright = (image[0] > BRIGHT).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
            for left, top, box_width, box_height, _ in stats[1:].tolist():
                self._write(maps, number, left, top, box_width, box_height)
        return tuple(Tensor(one.reshape(batch, -1, *one.shape[3:])) for one in maps)

    def _write(
        self, maps: list[np.ndarray], number: int, left: int, top: int, width: int, height: int
    ) -> None:
        """Write a box into the finest level, with its first anchor."""
        level = self.anchors.levels[0]
        x = (left + width / 2) / level.stride
        y = (top + height / 2) / level.stride
        anchor_width, anchor_height = level.anchors_wh_px[0]
        column = min(int(x), maps[0].shape[4] - 1)
        row = min(int(y), maps[0].shape[3] - 1)
        box = [
            self._logit(x - column, level.scale_x_y),
            self._logit(y - row, level.scale_x_y),
            np.log(width / anchor_width),
            np.log(height / anchor_height),
        ]
        maps[0][number, 0, :6, row, column] = [*box, SURE, SURE]

    @staticmethod
    def _logit(offset: float, scale: float) -> float:
        share = (offset + (scale - 1) / 2) / scale
        return float(np.log(share / (1 - share)))

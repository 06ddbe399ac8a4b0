"""Boxes as numpy arrays: formats, clipping, IoU, and the fit of an image into the input.

A name tells format and unit: `boxes_xyxy_px` holds left, top, right, bottom in pixels (edges, not
pixel indices, so the width is right - left); `cxcywh` is centre and size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def xyxy_to_cxcywh(boxes_xyxy: FloatArray) -> FloatArray:
    """Convert corners (..., 4) to centre and size (..., 4), in the same unit."""
    low, high = np.split(boxes_xyxy, 2, axis=-1)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: FloatArray) -> FloatArray:
    """Convert centre and size (..., 4) to corners (..., 4), in the same unit."""
    centre, size = np.split(boxes_cxcywh, 2, axis=-1)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def xyxy_to_xywh(boxes_xyxy: FloatArray) -> FloatArray:
    """Convert corners (..., 4) to COCO's left, top, width, height (..., 4), in the same unit."""
    low, high = np.split(boxes_xyxy, 2, axis=-1)
    return np.concatenate([low, high - low], axis=-1)


def clip_xyxy(boxes_xyxy: FloatArray, width: float, height: float) -> FloatArray:
    """Clip corners (..., 4) to the rectangle (0, 0, width, height)."""
    limits = np.array([width, height, width, height], boxes_xyxy.dtype)
    return np.clip(boxes_xyxy, 0, limits)


def area_xyxy(boxes_xyxy: FloatArray) -> FloatArray:
    """Return areas (...,) of corners (..., 4); 0 where a side is not positive."""
    size = np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0)
    return size[..., 0] * size[..., 1]


def pairwise_iou(first_xyxy: FloatArray, second_xyxy: FloatArray) -> FloatArray:
    """Return the IoU (N, M) of every first box (N, 4) with every second box (M, 4).

    Two boxes without area have IoU 0.
    """
    low = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    high = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    size = np.maximum(high - low, 0)
    intersection = size[..., 0] * size[..., 1]
    union = area_xyxy(first_xyxy)[:, None] + area_xyxy(second_xyxy)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def shape_iou(sizes_wh: FloatArray, anchors_wh: FloatArray) -> FloatArray:
    """Return the IoU (N, A) of boxes (N, 2) and anchors (A, 2) that share their centre."""
    widths = np.minimum(sizes_wh[:, None, 0], anchors_wh[None, :, 0])
    heights = np.minimum(sizes_wh[:, None, 1], anchors_wh[None, :, 1])
    overlap = widths * heights
    union = sizes_wh.prod(axis=-1)[:, None] + anchors_wh.prod(axis=-1)[None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


@dataclass(frozen=True)
class ResizeGeometry:
    """How an image of `width` x `height` pixels lies in the network's input."""

    width: int
    height: int
    input_width: int  # pixels, as all below
    input_height: int
    resized_width: int  # of the image in the input
    resized_height: int
    pad_left: int  # its position there
    pad_top: int

    def to_input(self, boxes_xyxy_px: FloatArray) -> FloatArray:
        """Move boxes (N, 4) from original pixels to input pixels."""
        return boxes_xyxy_px * self._scale(boxes_xyxy_px.dtype) + self._offset(boxes_xyxy_px.dtype)

    def to_original(self, boxes_xyxy_px: FloatArray) -> FloatArray:
        """Move boxes (N, 4) from input pixels to original pixels, clipped to the image."""
        dtype = boxes_xyxy_px.dtype
        moved = (boxes_xyxy_px - self._offset(dtype)) / self._scale(dtype)
        return clip_xyxy(moved, self.width, self.height)

    def _scale(self, dtype: np.dtype) -> FloatArray:
        scale = [self.resized_width / self.width, self.resized_height / self.height]
        return np.array(scale * 2, dtype)

    def _offset(self, dtype: np.dtype) -> FloatArray:
        return np.array([self.pad_left, self.pad_top] * 2, dtype)


def letterbox_geometry(
    width: int, height: int, input_width: int, input_height: int | None = None
) -> ResizeGeometry:
    """Fit the image into the input with its aspect kept, centred; an odd pixel goes to the end.

    `input_height` None means a square input.
    """
    input_height = input_height or input_width
    scale = min(input_width / width, input_height / height)
    resized_width = min(input_width, max(1, round(width * scale)))
    resized_height = min(input_height, max(1, round(height * scale)))
    pad_left = (input_width - resized_width) // 2
    pad_top = (input_height - resized_height) // 2
    resized = (resized_width, resized_height, pad_left, pad_top)
    return ResizeGeometry(width, height, input_width, input_height, *resized)


def resize_geometry(
    resize: str, width: int, height: int, input_width: int, input_height: int | None = None
) -> ResizeGeometry:
    """Return the geometry for `resize`: "letterbox", or "stretch" (darknet's `letter_box=0`)."""
    if resize == "letterbox":
        return letterbox_geometry(width, height, input_width, input_height)
    inside = (input_width, input_height or input_width)
    return ResizeGeometry(width, height, *inside, *inside, 0, 0)

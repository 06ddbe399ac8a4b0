"""Detections drawn into an image."""

import colorsys
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray

_GOLDEN_RATIO = 0.6180339887498949
# (saturation, value) alternate from class to class, so that similar hues differ in strength.
_STRENGTHS = ((0.9, 1.0), (0.55, 1.0), (0.95, 0.65), (0.4, 0.8))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_color(class_id: int) -> tuple[int, int, int]:
    """Return the class's colour (r, g, b), 0 to 255; hues are steps of the golden ratio."""
    hue = (class_id * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, *_STRENGTHS[class_id % len(_STRENGTHS)])
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(
    image: NDArray[np.uint8],
    boxes_xyxy_px: FloatArray,
    class_ids: NDArray[np.integer],
    scores: FloatArray | None,
    class_names: Sequence[str] | Mapping[int, str],
) -> NDArray[np.uint8]:
    """Return a copy of an RGB image (H, W, 3) with boxes and labels, the best score on top.

    Args:
        boxes_xyxy_px: (N, 4) in the image's pixels; parts outside are not drawn.
        class_ids: (N,)
        scores: (N,), or None for ground truth.
    """
    canvas = np.ascontiguousarray(image.copy())
    line_px = max(1, round((canvas.shape[0] + canvas.shape[1]) / 600))
    order = np.arange(len(boxes_xyxy_px)) if scores is None else np.argsort(scores, kind="stable")
    corners = [_visible_corners(box, canvas.shape) for box in boxes_xyxy_px]
    colors = [class_color(int(class_id)) for class_id in class_ids]
    for index in order:
        cv2.rectangle(canvas, corners[index][:2], corners[index][2:], colors[index], line_px)
    for index in order:  # labels last: no box runs through a label
        class_id = int(class_ids[index])
        name = _printable(class_names[class_id]) or f"class {class_id}"
        text = name if scores is None else f"{name} {scores[index]:.2f}"
        _draw_label(canvas, text, corners[index][:2], colors[index], line_px)
    return canvas


def _visible_corners(box: FloatArray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the box's outermost pixels within the image."""
    height, width = shape[:2]
    limits = np.array([width, height, width, height]) - 1
    pixels = np.round(box - np.array([0, 0, 1, 1]))  # the last pixel lies before the edge
    left, top, right, bottom = np.clip(pixels, 0, limits).astype(int).tolist()
    return left, top, right, bottom


def _printable(name: str) -> str:
    """Return the name with "?" for what OpenCV's font lacks; empty if nothing else is left."""
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    return text if text.strip("? ") else ""


def _draw_label(
    canvas: NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    color: tuple[int, int, int],
    line_px: int,
) -> None:
    """Write the text on a rectangle of the class's colour at the box's left top corner.

    It lies above the box, or inside it at the image's upper edge.
    """
    height, width = canvas.shape[:2]

    # Smaller letters where the image is narrow.
    scale = max(0.35, line_px * 0.22)
    thickness = max(1, line_px // 2)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    if text_width + 4 > width:
        scale *= max(width - 4, 1) / text_width
        (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)

    label_width = text_width + 4
    label_height = text_height + baseline + 2
    left = max(0, min(corner[0], width - label_width))
    top = corner[1] - label_height if corner[1] >= label_height else corner[1]
    top = max(0, min(top, height - label_height))
    bottom_right = (left + label_width - 1, top + label_height - 1)
    cv2.rectangle(canvas, (left, top), bottom_right, color, cv2.FILLED)

    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    start = (left + 2, top + text_height + 1)
    cv2.putText(canvas, text, start, _FONT, scale, ink, thickness, cv2.LINE_AA)

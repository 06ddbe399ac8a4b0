"""Detections drawn into an image."""

import colorsys
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray
from mindyolo_v4.evaluation.fonts import cut

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom

_GOLDEN_RATIO = 0.6180339887498949
# (saturation, value) alternate from class to class, so that similar hues differ in strength.
_STRENGTHS = ((0.9, 1.0), (0.55, 1.0), (0.95, 0.65), (0.4, 0.8))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LONGEST_NAME = 40  # letters of a class


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

    Labels do not cover one another: the best score has its label at its box, another label moves to
    the next free place, and one that finds none is left out.

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
    taken = np.zeros((0, 4), int)  # left, top, right, bottom of the labels so far
    for index in order[::-1]:  # labels last: no box runs through a label
        class_id = int(class_ids[index])
        name = _printable(class_names[class_id]) or f"class {class_id}"
        label = _fit_label(
            name if scores is None else f"{name} {scores[index]:.2f}", canvas, line_px
        )
        place = _free_place(corners[index], label, canvas.shape, taken)
        if place is not None:
            _draw_label(canvas, label, place, colors[index])
            taken = np.concatenate([taken, [place]])
    return canvas


@dataclass(frozen=True)
class _Label:
    """A line of text and its size in pixels."""

    text: str
    scale: float
    thickness: int
    text_height: int
    width: int  # of the rectangle
    height: int


def _visible_corners(box: FloatArray, shape: tuple[int, ...]) -> Rectangle:
    """Return the box's outermost pixels within the image."""
    height, width = shape[:2]
    limits = np.array([width, height, width, height]) - 1
    pixels = np.round(box - np.array([0, 0, 1, 1]))  # the last pixel lies before the edge
    left, top, right, bottom = np.clip(pixels, 0, limits).astype(int).tolist()
    return left, top, right, bottom


def _printable(name: str) -> str:
    """Return the name, cut, with "?" for what OpenCV's font lacks; empty if no more is left."""
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in cut(name, _LONGEST_NAME))
    return text if text.strip("? ") else ""


def _fit_label(text: str, canvas: NDArray[np.uint8], line_px: int) -> _Label:
    """Return the label of a text, with smaller letters where the image is narrow."""
    width = canvas.shape[1]
    scale = max(0.35, line_px * 0.22)
    thickness = max(1, line_px // 2)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    if text_width + 4 > width:
        scale *= max(width - 4, 1) / text_width
        (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    height = text_height + baseline + 2
    return _Label(text, scale, thickness, text_height, text_width + 4, height)


def _free_place(
    box: Rectangle, label: _Label, shape: tuple[int, ...], taken: NDArray[np.integer]
) -> Rectangle | None:
    """Return where a label covers no other one: near its box, else the nearest free line.

    Args:
        taken: (N, 4) rectangles of other labels.
    """
    box_left, box_top, box_right, box_bottom = box
    lowest = max(0, shape[0] - label.height)
    rightmost = max(0, shape[1] - label.width)

    # Above the box, or inside it at the image's upper edge; then inside, below, and line by line.
    above = box_top - label.height
    near = [box_top, box_bottom + 1, box_bottom + 1 - label.height]
    lines = sorted(range(0, lowest + 1, label.height), key=lambda line: abs(line - box_top))
    tops = [*([above] if above >= 0 else []), *near, *lines]
    lefts = (box_left, box_right + 1 - label.width)
    for top, left in itertools.product(tops, lefts):
        x = max(0, min(left, rightmost))
        y = max(0, min(top, lowest))
        place = (x, y, x + label.width, y + label.height)
        apart = (taken[:, :2] >= place[2:]) | (taken[:, 2:] <= place[:2])
        if apart.any(axis=1).all():
            return place
    return None


def _draw_label(
    canvas: NDArray[np.uint8], label: _Label, place: Rectangle, color: tuple[int, int, int]
) -> None:
    """Write the text on a rectangle of the class's colour."""
    left, top, right, bottom = place
    cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), color, cv2.FILLED)

    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    start = (left + 2, top + label.text_height + 1)
    cv2.putText(canvas, label.text, start, _FONT, label.scale, ink, label.thickness, cv2.LINE_AA)

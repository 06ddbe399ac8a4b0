"""Geometric augmentation: every move is one 3 x 3 matrix that moves the image and its boxes.

Matrices act on edge coordinates, in which pixel i covers [i, i + 1), as box corners do.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import ResizeGeometry, area_xyxy, clip_xyxy, resize_geometry
from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.images import Image, resize_image
from mindyolo_v4.data.sample import BoxArray, Sample

Matrix = NDArray[np.float64]  # (3, 3)
# x and y of a box's corners in left, top, right, bottom
_CORNERS = np.array([[0, 1], [2, 1], [2, 3], [0, 3]])
# bilinear sampling skips source pixels below this zoom; averaging goes before it
SHRINK_LIMIT = 0.5


def scaling(factor_x: float, factor_y: float) -> Matrix:
    """Return the matrix that multiplies x and y."""
    return np.array([[factor_x, 0.0, 0.0], [0.0, factor_y, 0.0], [0.0, 0.0, 1.0]])


def translation(shift_x: float, shift_y: float) -> Matrix:
    """Return the matrix that adds to x and y."""
    return np.array([[1.0, 0.0, shift_x], [0.0, 1.0, shift_y], [0.0, 0.0, 1.0]])


def mirror(width: float) -> Matrix:
    """Return the matrix that mirrors x in [0, width]."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def rotation(angle: float) -> Matrix:
    """Return the matrix that turns by an angle in radians, counter-clockwise as the image shows."""
    cosine = math.cos(angle)
    sine = math.sin(angle)
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def shearing(slope_x: float, slope_y: float) -> Matrix:
    """Return the matrix that adds slope_x y to x and slope_y x to y."""
    return np.array([[1.0, slope_x, 0.0], [slope_y, 1.0, 0.0], [0.0, 0.0, 1.0]])


def resize_matrix(geometry: ResizeGeometry) -> Matrix:
    """Return the matrix from original to input pixels."""
    zoom_x = geometry.resized_width / geometry.width
    zoom_y = geometry.resized_height / geometry.height
    return translation(geometry.pad_left, geometry.pad_top) @ scaling(zoom_x, zoom_y)


def has_affine(augment: AugmentConfig) -> bool:
    """Tell whether any strength of the random affine/perspective move is on."""
    strengths = (augment.degrees, augment.translate, augment.scale, augment.shear)
    return any(strengths) or augment.perspective != 0


def draw_affine(rng: np.random.Generator, augment: AugmentConfig, canvas: int, size: int) -> Matrix:
    """Draw the move of a square canvas (side in pixels) onto the S x S output, centre near centre.

    Order: perspective, rotation and zoom 1 + U(-scale, scale), shear, shift of U(-translate,
    translate) x S (the order of mindyolo's recipe). The perspective terms are limited so that no
    part of the canvas passes behind the viewer.
    """
    limit = 0.9 / canvas
    perspective = np.eye(3)
    perspective[2, :2] = np.clip(rng.uniform(-1, 1, 2) * augment.perspective, -limit, limit)

    angle = math.radians(rng.uniform(-1, 1) * augment.degrees)
    zoom = 1 + rng.uniform(-1, 1) * augment.scale
    turn = scaling(zoom, zoom) @ rotation(angle)
    shear = shearing(*np.tan(np.radians(rng.uniform(-1, 1, 2) * augment.shear)))
    shift = translation(*(0.5 + rng.uniform(-1, 1, 2) * augment.translate) * size)
    centre_to_origin = translation(-canvas / 2, -canvas / 2)
    return shift @ shear @ turn @ perspective @ centre_to_origin


def warp_boxes(boxes_xyxy_px: NDArray[np.floating], matrix: Matrix) -> BoxArray:
    """Return the enclosing boxes (N, 4) of the four moved corners of each box, not clipped."""
    corners = boxes_xyxy_px.astype(np.float64)[:, _CORNERS]  # (N, 4, 2)
    homogeneous = corners @ matrix[:, :2].T + matrix[:, 2]  # (N, 4, 3)
    moved = homogeneous[..., :2] / homogeneous[..., 2:]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)


def visible_boxes(
    boxes_xyxy_px: BoxArray, whole_xyxy_px: BoxArray, size: int, augment: AugmentConfig
) -> tuple[BoxArray, NDArray[np.bool_]]:
    """Clip boxes (N, 4) to the S x S canvas, and tell (N,) which are worth keeping.

    Args:
        whole_xyxy_px: the same boxes with nothing cut off, the measure of `min_visible`.
    """
    clipped = clip_xyxy(boxes_xyxy_px, size, size)
    sides = clipped[:, 2:] - clipped[:, :2]
    # boxes are float32: one that is not cut may measure a little less than itself
    enough = area_xyxy(clipped) >= augment.min_visible * area_xyxy(whole_xyxy_px) * (1 - 1e-5)
    return clipped, (sides > 0).all(axis=1) & (sides >= augment.min_box_px).all(axis=1) & enough


def draw_warped(canvas: Image, image: Image, matrix: Matrix) -> None:
    """Draw `image`, moved by `matrix`, into `canvas`, in place.

    Pixels whose centre lies outside the moved image stay, so neighbours that share an edge leave no
    seam.
    """
    height, width = image.shape[:2]
    # the part of the canvas that can change
    outline = warp_boxes(np.array([[0, 0, width, height]]), matrix)[0]
    first_x, first_y, end_x, end_y = (math.ceil(edge - 0.5) for edge in outline.tolist())
    left = max(0, first_x)
    top = max(0, first_y)
    size = (min(canvas.shape[1], end_x) - left, min(canvas.shape[0], end_y) - top)
    if min(size) <= 0:
        return
    region = canvas[top : top + size[1], left : left + size[0]]

    image, matrix = _shrink_first(image, translation(-left, -top) @ matrix)
    # OpenCV counts from pixel centres
    pixel_matrix = translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5)
    smooth = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    if np.count_nonzero(matrix[[0, 1, 2, 2], [1, 0, 0, 1]]) == 0:
        # sides stay upright: the region is the image
        cv2.warpAffine(image, pixel_matrix[:2], size, dst=region, **smooth)
        return
    warped = cv2.warpPerspective(image, pixel_matrix, size, **smooth)
    ones = np.ones(image.shape[:2], np.uint8)
    inside = cv2.warpPerspective(ones, pixel_matrix, size, flags=cv2.INTER_NEAREST)
    np.copyto(region, warped, where=inside[..., None].astype(bool))


def _shrink_first(image: Image, matrix: Matrix) -> tuple[Image, Matrix]:
    """Average blocks of source pixels where the move shrinks the image below SHRINK_LIMIT.

    The blocks are whole pixels wide and high, as large as they can be while the result is no
    smaller than the output. Averaging them is fast, and bilinear sampling does the rest without
    leaving a pixel out.
    """
    height, width = image.shape[:2]
    depth = matrix[2, 0] * width / 2 + matrix[2, 1] * height / 2 + matrix[2, 2]
    block_width = _block_side(math.hypot(matrix[0, 0], matrix[0, 1]) / depth, width)
    block_height = _block_side(math.hypot(matrix[1, 0], matrix[1, 1]) / depth, height)
    if block_width == block_height == 1:
        return image, matrix
    small_width = width // block_width
    small_height = height // block_height
    # what is left over is less than an output pixel
    whole = image[: small_height * block_height, : small_width * block_width]
    small = cv2.resize(whole, (small_width, small_height), interpolation=cv2.INTER_AREA)
    return small, matrix @ scaling(block_width, block_height)


def _block_side(zoom: float, side: int) -> int:
    if zoom >= SHRINK_LIMIT:
        return 1
    return min(side, int(1 / zoom + 1e-6)) if zoom * side > 1 else side


def warp_sample(
    sample: Sample, matrix: Matrix, size: int, fill: tuple[int, ...], augment: AugmentConfig
) -> Sample:
    """Move a sample by `matrix` onto an S x S canvas of colour `fill`; clip or drop its boxes."""
    canvas = np.full((size, size, 3), fill, np.uint8)
    draw_warped(canvas, sample.image, matrix @ scaling(*sample.enlargement))
    moved = warp_boxes(sample.boxes_xyxy_px, matrix)
    boxes, kept = visible_boxes(moved, moved, size, augment)
    return Sample(canvas, boxes[kept], sample.class_ids[kept])


def fit_sample(sample: Sample, data: DataConfig) -> Sample:
    """Fit a sample into S x S as a test image is (`data.resize`); drop boxes that are too small."""
    geometry = resize_geometry(data.resize, *sample.wh_px, data.img_size)
    image = resize_image(sample.image, geometry, data.pad_value)
    moved = geometry.to_input(sample.boxes_xyxy_px)
    boxes, kept = visible_boxes(moved, moved, data.img_size, data.augment)
    return Sample(image, boxes[kept], sample.class_ids[kept])


@dataclass(frozen=True)
class Sides:
    """A number of pixels for each side of an image.

    The pads of darknet's jitter are taken off; negative ones are added.
    """

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


def draw_pads(rng: np.random.Generator, jitter: float, width: int, height: int) -> Sides:
    """Draw darknet's jitter of an image: each side ~ U(-d, d) with d = floor(jitter x side)."""
    limit_x = int(jitter * width)
    limit_y = int(jitter * height)
    left, right = (int(side) for side in rng.integers(-limit_x, limit_x, 2, endpoint=True))
    top, bottom = (int(side) for side in rng.integers(-limit_y, limit_y, 2, endpoint=True))
    return Sides(left, top, right, bottom)


def crop_matrix(pads: Sides, width: int, height: int, size: int) -> Matrix:
    """Return the matrix that stretches the crop of a width x height image over S x S."""
    crop_width = width - pads.left - pads.right
    crop_height = height - pads.top - pads.bottom
    return scaling(size / crop_width, size / crop_height) @ translation(-pads.left, -pads.top)


def mean_colour(image: Image) -> tuple[int, int, int]:
    """Return the mean (R, G, B), with which darknet fills what lies outside the image."""
    red, green, blue, _ = cv2.mean(image)
    return round(red), round(green), round(blue)

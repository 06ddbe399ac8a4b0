"""Four images in one: a 2s x 2s canvas that an affine move brings to s x s, or darknet's cut tiles.

Tiles are numbered 0 top-left, 1 top-right, 2 bottom-left, 3 bottom-right.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import (
    ResizeGeometry,
    clip_xyxy,
    cxcywh_to_xyxy,
    letterbox_geometry,
    xyxy_to_cxcywh,
)
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.augment.geometry import (
    Matrix,
    Sides,
    crop_matrix,
    draw_affine,
    draw_pads,
    draw_warped,
    mean_colour,
    mirror,
    resize_matrix,
    scaling,
    translation,
    visible_boxes,
    warp_boxes,
)
from mindyolo_v4.data.augment.transforms import change_colours
from mindyolo_v4.data.images import Image, grey_image
from mindyolo_v4.data.sample import BoxArray, Sample


def _join(image: Image, parts: Sequence[tuple[BoxArray, NDArray[np.int64]]]) -> Sample:
    boxes = np.concatenate([boxes for boxes, _ in parts])
    return Sample(image, boxes, np.concatenate([class_ids for _, class_ids in parts]))


# ---------------------------------------------------------------- 2s x 2s canvas


def canvas_mosaic(samples: Sequence[Sample], rng: np.random.Generator, data: DataConfig) -> Sample:
    """Put four images around a point of a 2s x 2s canvas and move the canvas onto s x s.

    As in mindyolo's recipe, the point is U(s/2, 3s/2) in x and y; each image has its long side
    resized to s, one corner at the point, and is cut at the canvas border. Every image is drawn
    straight onto the output, by the product of both moves.
    """
    size = data.img_size
    canvas_size = 2 * size
    centre = (int(rng.uniform(size / 2, 3 * size / 2)), int(rng.uniform(size / 2, 3 * size / 2)))
    move = draw_affine(rng, data.augment, canvas_size, size)
    image = grey_image(size, data.pad_value)
    parts = []
    for tile, sample in enumerate(samples):
        to_canvas = canvas_matrix(tile, centre, letterbox_geometry(*sample.wh_px, size))
        parts.append((warp_boxes(sample.boxes_xyxy_px, to_canvas), sample.class_ids))
        # draw the source pixels that the canvas shows, at least in part
        to_canvas = to_canvas @ scaling(*sample.enlargement)
        left, top, right, bottom = _visible_part(sample.image, to_canvas, canvas_size)
        to_output = move @ to_canvas @ translation(left, top)
        draw_warped(image, sample.image[top:bottom, left:right], to_output)
    on_canvas = _join(image, parts)

    cut = clip_xyxy(on_canvas.boxes_xyxy_px, canvas_size, canvas_size)
    whole = warp_boxes(on_canvas.boxes_xyxy_px, move)
    boxes, kept = visible_boxes(warp_boxes(cut, move), whole, size, data.augment)
    # a box that was cut down to a line has an enclosing box again when it is rotated
    kept &= (cut[:, 2:] > cut[:, :2]).all(axis=1)
    return Sample(image, boxes[kept], on_canvas.class_ids[kept])


def canvas_matrix(tile: int, centre: tuple[int, int], fitted: ResizeGeometry) -> Matrix:
    """Return the matrix from a source image to its tile of the canvas, one corner at `centre`."""
    left = centre[0] - fitted.resized_width if tile in (0, 2) else centre[0]
    top = centre[1] - fitted.resized_height if tile in (0, 1) else centre[1]
    return resize_matrix(replace(fitted, pad_left=left, pad_top=top))


def _visible_part(image: Image, to_canvas: Matrix, canvas_size: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the source pixels that the canvas shows."""
    height, width = image.shape[:2]
    (zoom_x, _, offset_x), (_, zoom_y, offset_y), _ = to_canvas.tolist()
    left = max(0, math.floor(-offset_x / zoom_x + 1e-6))
    top = max(0, math.floor(-offset_y / zoom_y + 1e-6))
    right = min(width, math.ceil((canvas_size - offset_x) / zoom_x - 1e-6))
    bottom = min(height, math.ceil((canvas_size - offset_y) / zoom_y - 1e-6))
    return left, top, right, bottom


# ---------------------------------------------------------------- darknet's tiles


class TileBounds(NamedTuple):
    """Edges of a tile on the canvas, pixels."""

    left: int
    top: int
    right: int
    bottom: int


def darknet_mosaic(samples: Sequence[Sample], rng: np.random.Generator, data: DataConfig) -> Sample:
    """Cut an s x s canvas at a random point into four tiles, each a view of one image (darknet).

    Each image is jittered, mirrored and recoloured by its own draws; the cut is an integer in
    [0.2 s, 0.8 s].
    """
    size = data.img_size
    augment = data.augment
    cut_x, cut_y = rng.integers(int(0.2 * size), int(0.8 * size), 2, endpoint=True).tolist()
    cut = (cut_x, cut_y)
    canvas = grey_image(size, data.pad_value)
    parts = []
    for tile, sample in enumerate(samples):
        # the crop of the image, as a matrix onto s x s
        width, height = sample.wh_px
        pads = draw_pads(rng, augment.jitter, width, height)
        mirrored = bool(rng.random() < augment.flip_prob)
        if rng.random() < 0.5:
            pads = move_pads(pads, tile, mirrored)
        crop = crop_matrix(pads, width, height, size)
        if mirrored:
            crop = mirror(size) @ crop

        # the part of the crop that the tile shows
        bounds = _tile_bounds(tile, cut, size)
        shifts = view_shifts(pads, mirrored, (width, height), cut, size)
        offset = tile_offset(tile, cut, shifts, size)
        region = canvas[bounds.top : bounds.bottom, bounds.left : bounds.right]
        region[:] = mean_colour(sample.image)
        to_canvas = translation(*offset) @ crop @ scaling(*sample.enlargement)
        draw_warped(region, sample.image, translation(-bounds.left, -bounds.top) @ to_canvas)
        region[:] = change_colours(np.ascontiguousarray(region), rng, augment)
        parts.append(_tile_targets(sample, crop, offset, bounds, data))
    return _join(canvas, parts)


def move_pads(pads: Sides, tile: int, mirrored: bool) -> Sides:
    """Move the crop so that the corner that the tile shows holds image content.

    One pad of each axis becomes 0, the other takes both.
    """
    across = pads.left + pads.right
    down = pads.top + pads.bottom
    keep_left = (tile in (0, 2)) != mirrored
    left, right = (0, across) if keep_left else (across, 0)
    top, bottom = (0, down) if tile in (0, 1) else (down, 0)
    return Sides(left, top, right, bottom)


def view_shifts(
    pads: Sides, mirrored: bool, source_wh: tuple[int, int], cut: tuple[int, int], size: int
) -> Sides:
    """Return by how many output pixels a tile's view moves to leave out padded borders.

    The pads are scaled by the image's size, as darknet does, and stay within the tile.
    """
    width, height = source_wh
    cut_x, cut_y = cut
    left, right = (pads.right, pads.left) if mirrored else (pads.left, pads.right)
    return Sides(
        left=min(cut_x, max(0, -left * size // width)),
        top=min(cut_y, max(0, -pads.top * size // height)),
        right=min(size - cut_x, max(0, -right * size // width)),
        bottom=min(size - cut_y, max(0, -pads.bottom * size // height)),
    )


def tile_offset(tile: int, cut: tuple[int, int], shifts: Sides, size: int) -> tuple[int, int]:
    """Return the move in x and y, pixels, of a tile's s x s image to its part of the canvas."""
    shift_x = -(size - cut[0] - shifts.right) if tile in (0, 2) else cut[0] - shifts.left
    shift_y = -(size - cut[1] - shifts.bottom) if tile in (0, 1) else cut[1] - shifts.top
    return shift_x, shift_y


def place_tile_boxes(
    boxes_cxcywh: BoxArray, offset: tuple[int, int], bounds: TileBounds | None, size: int
) -> tuple[BoxArray, NDArray[np.bool_]]:
    """Shift normalised boxes (N, 4) with their tile and cut them; tell (N,) which stay (darknet).

    Edges are truncated to whole pixels in float32, as in the original.

    Args:
        bounds: of the tile, to which boxes are clipped (`mosaic_bound`); None: only what is beyond
            the canvas is cut off.
    """
    side = np.float32(size)
    centre = boxes_cxcywh[:, :2] + np.array(offset, np.float32) / side
    extent = boxes_cxcywh[:, 2:]
    low = ((centre - extent / 2) * side).astype(np.int64)  # truncates towards 0, as C does
    high = ((centre + extent / 2) * side).astype(np.int64)
    if bounds is not None:
        low = np.maximum(low, bounds[:2])
        high = np.minimum(high, bounds[2:])
        centre = (low + high).astype(np.float32) / 2 / side
        extent = (high - low).astype(np.float32) / side
    else:
        before = np.minimum(low, 0).astype(np.float32) / side
        beyond = np.maximum(high - size, 0).astype(np.float32) / side
        centre = centre - before / 2 - beyond / 2
        extent = extent + before - beyond
        low = ((centre - extent / 2) * side).astype(np.int64)
        high = ((centre + extent / 2) * side).astype(np.int64)

    inside = (low >= 0) & (high <= size) & (centre > 0) & (centre < 1)
    inside &= (extent < 1) & (extent > 1 / side)
    return np.concatenate([centre, extent], axis=1), inside.all(axis=1)


def _tile_bounds(tile: int, cut: tuple[int, int], size: int) -> TileBounds:
    left, right = (0, cut[0]) if tile in (0, 2) else (cut[0], size)
    top, bottom = (0, cut[1]) if tile in (0, 1) else (cut[1], size)
    return TileBounds(left, top, right, bottom)


def _tile_targets(
    sample: Sample, crop: Matrix, offset: tuple[int, int], bounds: TileBounds, data: DataConfig
) -> tuple[BoxArray, NDArray[np.int64]]:
    """Return the boxes of a tile on the canvas, and their classes."""
    size = data.img_size
    augment = data.augment
    whole = warp_boxes(sample.boxes_xyxy_px, crop)
    # darknet drops what is under one pixel after the crop, before the mosaic
    one_pixel = replace(augment, min_box_px=1.0, min_visible=0.0)
    cropped, is_large = visible_boxes(whole, whole, size, one_pixel)

    normalised = xyxy_to_cxcywh(cropped) / np.float32(size)
    clip_to = bounds if augment.mosaic_bound else None
    placed, kept = place_tile_boxes(normalised, offset, clip_to, size)
    boxes, is_visible = visible_boxes(
        cxcywh_to_xyxy(placed) * np.float32(size), whole, size, augment
    )
    kept &= is_large & is_visible
    return boxes[kept], sample.class_ids[kept]

"""Four images in one: the 2s x 2s canvas that an affine move brings down to s x s, and darknet's cut tiles.

Tiles are numbered 0 top-left, 1 top-right, 2 bottom-left, 3 bottom-right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import (
    ResizeGeometry,
    clip_xyxy,
    cxcywh_to_xyxy,
    letterbox_geometry,
    xyxy_to_cxcywh,
)
from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.augment.geometry import (
    Matrix,
    Pads,
    crop_matrix,
    draw_affine,
    draw_pads,
    draw_warped,
    mean_colour,
    mirror,
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


# ------------------------------------------------------------------------------------------------ 2s x 2s canvas


def canvas_mosaic(samples: Sequence[Sample], rng: np.random.Generator, data: DataConfig) -> Sample:
    """Put four images around a point of a 2s x 2s canvas and move the canvas onto s x s (mindyolo's recipe).

    The point is U(s/2, 3s/2) in x and y; each image has its long side resized to s, one corner at the point, and is cut
    at the canvas border. Every image is drawn straight onto the output, by the product of both moves.
    """
    size, canvas_size = data.img_size, 2 * data.img_size
    centre = (int(rng.uniform(size / 2, 3 * size / 2)), int(rng.uniform(size / 2, 3 * size / 2)))
    move = draw_affine(rng, data.augment, canvas_size, size)
    image = grey_image(size, data.pad_value)
    parts = []
    for tile, sample in enumerate(samples):
        place = canvas_place(tile, centre, letterbox_geometry(*sample.wh_px, size))
        _draw_seen_part(
            image, sample.image, place @ scaling(*sample.enlargement), move, canvas_size
        )
        parts.append((warp_boxes(sample.boxes_xyxy_px, place), sample.class_ids))
    placed = _join(image, parts)
    cut = clip_xyxy(placed.boxes_xyxy_px, canvas_size, canvas_size)
    moved, whole = warp_boxes(cut, move), warp_boxes(placed.boxes_xyxy_px, move)
    boxes, kept = visible_boxes(moved, whole, size, data.augment)
    kept &= (cut[:, 2:] > cut[:, :2]).all(
        axis=1
    )  # a box cut down to a line has an enclosing box when rotated
    return Sample(image, boxes[kept], placed.class_ids[kept])


def canvas_place(tile: int, centre: tuple[int, int], fitted: ResizeGeometry) -> Matrix:
    """Return the matrix that brings a whole source image to its tile of the canvas, one corner at `centre`."""
    left = centre[0] - fitted.resized_width if tile in (0, 2) else centre[0]
    top = centre[1] - fitted.resized_height if tile in (0, 1) else centre[1]
    scale = scaling(fitted.resized_width / fitted.width, fitted.resized_height / fitted.height)
    return translation(left, top) @ scale


def _draw_seen_part(
    output: Image, image: Image, place: Matrix, move: Matrix, canvas_size: int
) -> None:
    """Draw what the canvas shows of an image, put there by `place`, onto the output."""
    left, top, right, bottom = _seen_part(place, image.shape[1], image.shape[0], canvas_size)
    draw_warped(output, image[top:bottom, left:right], move @ place @ translation(left, top))


def _seen_part(
    place: Matrix, width: int, height: int, canvas_size: int
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the source pixels that the canvas shows, at least in part."""
    (zoom_x, _, offset_x), (_, zoom_y, offset_y), _ = place.tolist()
    left, top = (
        max(0, math.floor(-offset_x / zoom_x + 1e-6)),
        max(0, math.floor(-offset_y / zoom_y + 1e-6)),
    )
    right = min(width, math.ceil((canvas_size - offset_x) / zoom_x - 1e-6))
    bottom = min(height, math.ceil((canvas_size - offset_y) / zoom_y - 1e-6))
    return left, top, right, bottom


# ------------------------------------------------------------------------------------------------ darknet's tiles


@dataclass(frozen=True)
class Shifts:
    """By how many output pixels a tile's view moves to leave out padded borders (L, T, R, B)."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


def darknet_mosaic(samples: Sequence[Sample], rng: np.random.Generator, data: DataConfig) -> Sample:
    """Cut an s x s canvas at a random point into four tiles, each a view of one augmented image (darknet).

    Each image is jittered, mirrored and recoloured by its own draws; the cut is an integer in [0.2 s, 0.8 s].
    """
    size, augment = data.img_size, data.augment
    cut_x, cut_y = rng.integers(int(0.2 * size), int(0.8 * size), 2, endpoint=True)
    cut = (int(cut_x), int(cut_y))
    canvas = grey_image(size, data.pad_value)
    parts = []
    for tile, sample in enumerate(samples):
        width, height = sample.wh_px
        pads = draw_pads(rng, augment.jitter, width, height)
        mirrored = bool(rng.random() < augment.flip_prob)
        if rng.random() < 0.5:
            pads = move_pads(pads, tile, mirrored)
        shifts = view_shifts(pads, mirrored, (width, height), cut, size)
        crop = crop_matrix(pads, width, height, size)
        if mirrored:
            crop = mirror(size) @ crop
        _draw_tile(
            canvas, sample, translation(*tile_offset(tile, cut, shifts, size)) @ crop, tile, cut
        )
        region = _tile_region(canvas, tile, cut)
        region[:] = change_colours(np.ascontiguousarray(region), rng, augment)
        parts.append(_tile_truths(sample, crop, tile, cut, shifts, data))
    return _join(canvas, parts)


def move_pads(pads: Pads, tile: int, mirrored: bool) -> Pads:
    """Move the crop so that the corner which the tile shows holds image content: one pad of each axis becomes 0."""
    empty_left = (tile in (0, 2)) != mirrored
    across, down = pads.left + pads.right, pads.top + pads.bottom
    left, right = (0, across) if empty_left else (across, 0)
    top, bottom = (0, down) if tile in (0, 1) else (down, 0)
    return Pads(left, top, right, bottom)


def view_shifts(
    pads: Pads, mirrored: bool, source_wh: tuple[int, int], cut: tuple[int, int], size: int
) -> Shifts:
    """Return how far the views move: pads in output pixels (by the image's size, as darknet does), within the tile."""
    (width, height), (cut_x, cut_y) = source_wh, cut
    left, right = (pads.right, pads.left) if mirrored else (pads.left, pads.right)
    return Shifts(
        left=min(cut_x, max(0, -left * size // width)),
        top=min(cut_y, max(0, -pads.top * size // height)),
        right=min(size - cut_x, max(0, -right * size // width)),
        bottom=min(size - cut_y, max(0, -pads.bottom * size // height)),
    )


def tile_offset(tile: int, cut: tuple[int, int], shifts: Shifts, size: int) -> tuple[int, int]:
    """Return by how many pixels in x and y a tile's s x s image moves to show its part on the canvas."""
    shift_x = -(size - cut[0] - shifts.right) if tile in (0, 2) else cut[0] - shifts.left
    shift_y = -(size - cut[1] - shifts.bottom) if tile in (0, 1) else cut[1] - shifts.top
    return shift_x, shift_y


def place_tile_boxes(
    boxes_cxcywh: BoxArray,
    offset: tuple[int, int],
    bounds: tuple[int, int, int, int] | None,
    size: int,
) -> tuple[BoxArray, NDArray[np.bool_]]:
    """Shift normalised boxes (N, 4) with their tile and cut them; tell (N,) which stay (darknet).

    Edges are truncated to whole pixels in float32, as in the original.

    Args:
        bounds: left, top, right, bottom of the tile in pixels, to which boxes are clipped (`mosaic_bound`); None: only
            what is beyond the canvas is cut off.
    """
    side = np.float32(size)
    centre = boxes_cxcywh[:, :2] + np.array(offset, np.float32) / side
    extent = boxes_cxcywh[:, 2:]
    if bounds is not None:
        low = np.maximum(_whole((centre - extent / 2) * side), bounds[:2])
        high = np.minimum(_whole((centre + extent / 2) * side), bounds[2:])
        centre = (low + high).astype(np.float32) / 2 / side
        extent = (high - low).astype(np.float32) / side
    else:
        before = np.minimum(_whole((centre - extent / 2) * side), 0).astype(np.float32) / side
        beyond = (
            np.maximum(_whole((centre + extent / 2) * side) - size, 0).astype(np.float32) / side
        )
        centre = centre - before / 2 - beyond / 2
        extent = extent + before - beyond
        low, high = _whole((centre - extent / 2) * side), _whole((centre + extent / 2) * side)
    inside = (
        (low >= 0)
        & (high <= size)
        & (centre > 0)
        & (centre < 1)
        & (extent < 1)
        & (extent > 1 / side)
    )
    return np.concatenate([centre, extent], axis=1), inside.all(axis=1)


def _whole(edges_px: NDArray[np.float32]) -> NDArray[np.int64]:
    """Truncate towards 0, as C does."""
    return edges_px.astype(np.int64)


def _tile_bounds(tile: int, cut: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    left, right = (0, cut[0]) if tile in (0, 2) else (cut[0], size)
    top, bottom = (0, cut[1]) if tile in (0, 1) else (cut[1], size)
    return left, top, right, bottom


def _tile_region(canvas: Image, tile: int, cut: tuple[int, int]) -> Image:
    left, top, right, bottom = _tile_bounds(tile, cut, canvas.shape[0])
    return canvas[top:bottom, left:right]


def _draw_tile(
    canvas: Image, sample: Sample, matrix: Matrix, tile: int, cut: tuple[int, int]
) -> None:
    left, top, _, _ = _tile_bounds(tile, cut, canvas.shape[0])
    region = _tile_region(canvas, tile, cut)
    region[:] = mean_colour(sample.image)
    draw_warped(
        region, sample.image, translation(-left, -top) @ matrix @ scaling(*sample.enlargement)
    )


def _tile_truths(
    sample: Sample, crop: Matrix, tile: int, cut: tuple[int, int], shifts: Shifts, data: DataConfig
) -> tuple[BoxArray, NDArray[np.int64]]:
    """Return the boxes of a tile on the canvas, and their classes."""
    size, augment = data.img_size, data.augment
    whole = warp_boxes(sample.boxes_xyxy_px, crop)
    # darknet drops what is under one pixel after the crop, before the mosaic sees it
    cropped, seen = visible_boxes(whole, whole, size, _one_pixel(augment))
    bounds = _tile_bounds(tile, cut, size) if augment.mosaic_bound else None
    normalised = xyxy_to_cxcywh(cropped) / np.float32(size)
    placed, kept = place_tile_boxes(normalised, tile_offset(tile, cut, shifts, size), bounds, size)
    boxes, enough = visible_boxes(cxcywh_to_xyxy(placed) * np.float32(size), whole, size, augment)
    kept &= seen & enough
    return boxes[kept], sample.class_ids[kept]


def _one_pixel(augment: AugmentConfig) -> AugmentConfig:
    return replace(augment, min_box_px=1.0, min_visible=0.0)

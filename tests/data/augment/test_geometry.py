"""Matrices, boxes and pixels: hand-computed moves."""

import math

import numpy as np
import pytest

from mindyolo_v4.boxes import letterbox_geometry
from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.augment.geometry import (
    Sides,
    crop_matrix,
    draw_affine,
    draw_pads,
    draw_warped,
    fit_sample,
    has_affine,
    mean_colour,
    mirror,
    resize_matrix,
    scaling,
    translation,
    visible_boxes,
    warp_boxes,
    warp_sample,
)
from mindyolo_v4.data.sample import Sample

BOX = np.array([[10, 20, 30, 60]], np.float32)


class Draws:
    """A generator whose uniform numbers, as fractions of the range, are given."""

    def __init__(self, *fractions):
        self._fractions = iter(fractions)

    def uniform(self, low, high, count=None):
        drawn = [low + (high - low) * next(self._fractions) for _ in range(count or 1)]
        return np.array(drawn) if count else drawn[0]


def affine(fractions, size=100, canvas=100, **strengths):
    return draw_affine(Draws(*fractions), AugmentConfig(**strengths), canvas, size)


# fractions in drawing order (0.5 = none, 1 = full strength): perspective x, y; angle; zoom;
# shear x, y; shift x, y
def test_rotation_by_90_degrees_about_the_centre():
    matrix = affine([0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5, 0.5], degrees=90.0)
    np.testing.assert_allclose(
        warp_boxes(BOX, matrix), [[20, 70, 60, 90]], atol=1e-4
    )  # (x, y) -> (y, 100 - x)


def test_rotation_by_45_degrees_gives_the_enclosing_box():
    matrix = affine([0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5, 0.5], degrees=45.0)
    half = 10 * math.sqrt(2)
    boxes = warp_boxes(np.array([[40, 40, 60, 60]]), matrix)
    np.testing.assert_allclose(boxes, [[50 - half, 50 - half, 50 + half, 50 + half]], atol=1e-4)


def test_zoom_keeps_the_centre():
    matrix = affine([0.5, 0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5], scale=0.5)  # x 1.5
    np.testing.assert_allclose(warp_boxes(BOX, matrix), [[-10, 5, 20, 65]], atol=1e-4)


def test_shift_is_a_fraction_of_the_output():
    matrix = affine([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 0], translate=0.1)
    np.testing.assert_allclose(warp_boxes(BOX, matrix), [[20, 10, 40, 50]], atol=1e-4)


def test_shear_moves_x_by_y():
    matrix = affine([0.5, 0.5, 0.5, 0.5, 1, 0.5, 0.5, 0.5], shear=45.0)  # x + (y - 50)
    np.testing.assert_allclose(warp_boxes(BOX, matrix), [[-20, 20, 40, 60]], atol=1e-4)


def test_canvas_centre_goes_to_the_output_centre():
    matrix = affine([0.5] * 8, canvas=200)
    np.testing.assert_allclose(
        warp_boxes(np.array([[90, 90, 110, 120]]), matrix), [[40, 40, 60, 70]], atol=1e-4
    )


def test_perspective_divides_by_depth():
    matrix = affine([1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], perspective=0.001)
    # from the centre: x = 50 is seen at 50 / 1.05, and x = -50 at -50 / 0.95
    expected = [[50 - 50 / 0.95, 50 - 20 / 0.95, 50 + 50 / 1.05, 50 + 20 / 0.95]]
    np.testing.assert_allclose(
        warp_boxes(np.array([[0, 30, 100, 70]]), matrix), expected, atol=1e-4
    )


def test_perspective_never_folds_the_canvas(rng):
    for corner in (0.0, 1.0):
        matrix = affine([corner, corner, *[0.5] * 6], canvas=2000, perspective=0.001)
        corners = np.array([[x, y, 1] for x in (0, 2000) for y in (0, 2000)])
        assert (corners @ matrix[2]).min() > 0.05


def test_strengths_at_zero_are_no_move(rng):
    assert not has_affine(AugmentConfig())
    np.testing.assert_allclose(draw_affine(rng, AugmentConfig(), 64, 64), np.eye(3), atol=1e-12)
    assert has_affine(AugmentConfig(shear=1.0))


def test_jitter_crop_moves_a_box_as_darknet_does():
    # image 200 x 100; the crop takes 20 off the left and 10 off the top, adds 40 at the right
    matrix = crop_matrix(Sides(left=20, right=-40, top=10), 200, 100, 99)
    # left' = (left - p_left) * S / sw
    np.testing.assert_allclose(warp_boxes(BOX, matrix), [[-4.5, 11, 4.5, 55]], atol=1e-4)
    mirrored = warp_boxes(BOX, mirror(99) @ matrix)
    np.testing.assert_allclose(mirrored, [[94.5, 11, 103.5, 55]], atol=1e-4)


def test_pads_stay_within_the_jitter(rng):
    pads = [draw_pads(rng, 0.3, 101, 50) for _ in range(400)]
    across = np.array([(pad.left, pad.right) for pad in pads])
    down = np.array([(pad.top, pad.bottom) for pad in pads])
    assert (across.min(), across.max()) == (-30, 30)
    assert (down.min(), down.max()) == (-15, 15)
    assert draw_pads(rng, 0.0, 101, 50) == Sides()


def test_letterbox_of_a_sample():
    sample = Sample(
        np.full((50, 100, 3), 200, np.uint8),
        np.array([[10, 10, 60, 50]], np.float32),
        np.array([1]),
    )
    fitted = fit_sample(sample, DataConfig(img_size=32, pad_value=114))
    np.testing.assert_allclose(
        fitted.boxes_xyxy_px, [[3.2, 11.2, 19.2, 24]], atol=1e-5
    )  # x 0.32, 8 pixels on top
    assert np.unique(fitted.image[:8]).tolist() == [114] and np.unique(
        fitted.image[24:]
    ).tolist() == [114]
    assert np.unique(fitted.image[8:24]).tolist() == [200]


def test_stretch_of_a_sample_drops_what_becomes_too_small():
    boxes = np.array([[10, 10, 60, 50], [0, 0, 3, 40]], np.float32)
    sample = Sample(np.full((50, 100, 3), 200, np.uint8), boxes, np.array([1, 2]))
    fitted = fit_sample(
        sample, DataConfig(img_size=32, resize="stretch", augment=AugmentConfig(min_box_px=1.0))
    )
    np.testing.assert_allclose(fitted.boxes_xyxy_px, [[3.2, 6.4, 19.2, 32]], atol=1e-5)
    assert fitted.class_ids.tolist() == [1]
    assert np.unique(fitted.image).tolist() == [200]


def test_resize_matrix_agrees_with_the_geometry():
    geometry = letterbox_geometry(123, 77, 64)
    np.testing.assert_allclose(
        warp_boxes(BOX, resize_matrix(geometry)), geometry.to_input(BOX), atol=1e-4
    )


def test_boxes_are_clipped_and_dropped_by_size_and_visible_share():
    augment = AugmentConfig(min_box_px=3.0, min_visible=0.5)
    boxes = np.array(
        [[-10, 0, 10, 10], [-12, 0, 10, 10], [98, 0, 103, 10], [40, 40, 42, 80], [50, 50, 60, 60]],
        np.float32,
    )
    clipped, kept = visible_boxes(boxes, boxes, 100, augment)
    assert clipped[0].tolist() == [0, 0, 10, 10]
    assert kept.tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]  # half seen; less; 2 px wide after the cut; 2 px; whole


def test_drawing_by_identity_and_by_whole_pixels_is_exact(rng):
    image = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    canvas = np.zeros((12, 12, 3), np.uint8)
    draw_warped(canvas, image, translation(3, 2))
    np.testing.assert_array_equal(canvas[2:8, 3:8], image)
    assert canvas[2:8, 3:8].astype(int).sum() == canvas.astype(int).sum()
    draw_warped(canvas, image, translation(-2, 9))  # cut on two sides
    np.testing.assert_array_equal(canvas[9:, :3], image[:3, 2:])


def test_drawing_outside_the_canvas_changes_nothing(rng):
    canvas = np.zeros((8, 8, 3), np.uint8)
    draw_warped(canvas, np.full((4, 4, 3), 9, np.uint8), translation(20, 0))
    assert canvas.max() == 0


def test_mirrored_drawing_is_exact(rng):
    image = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    canvas = np.zeros((6, 6, 3), np.uint8)
    draw_warped(canvas, image, mirror(6))
    np.testing.assert_array_equal(canvas, image[:, ::-1])


def test_quarter_turn_is_exact(rng):
    image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    canvas = np.zeros((8, 8, 3), np.uint8)
    draw_warped(
        canvas,
        image,
        affine([0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5, 0.5], size=8, canvas=8, degrees=90.0),
    )
    np.testing.assert_array_equal(canvas, np.rot90(image))


def test_neighbours_leave_no_seam_at_any_zoom(rng):
    for zoom in (0.13, 0.77, 1.9):
        canvas = np.zeros((40, 40, 3), np.uint8)
        for left in (-60, -20, 20, 60, 100):
            draw_warped(
                canvas,
                np.full((200, 40, 3), 77, np.uint8),
                scaling(zoom, zoom) @ translation(left - 0.3, -20),
            )
        covered = canvas[:20, : int(20 * zoom)]
        assert covered.size and np.unique(covered).tolist() == [77]


def test_strong_shrinking_averages():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200  # bilinear sampling would pick all or nothing here
    canvas = np.zeros((8, 8, 3), np.uint8)
    draw_warped(canvas, image, scaling(1 / 8, 1 / 8))
    assert np.unique(canvas).tolist() == [100]


def test_warp_sample_is_pure_and_fills(rng):
    image = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    sample = Sample(
        image, np.array([[0, 0, 20, 20], [30, 5, 40, 30]], np.float32), np.array([3, 5])
    )
    before = image.copy(), sample.boxes_xyxy_px.copy()
    moved = warp_sample(sample, translation(-25, 4), 32, (1, 2, 3), AugmentConfig())
    np.testing.assert_array_equal(sample.image, before[0])
    np.testing.assert_array_equal(sample.boxes_xyxy_px, before[1])
    assert moved.boxes_xyxy_px.tolist() == [[5, 9, 15, 32]] and moved.class_ids.tolist() == [5]
    assert moved.image[0, 0].tolist() == [1, 2, 3]


def test_mean_colour():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (100, 51, 6)
    assert mean_colour(image) == (50, 26, 3) or mean_colour(image) == (50, 25, 3)


@pytest.mark.parametrize("size", [0, 1])
def test_warp_of_few_boxes_keeps_shape_and_dtype(size):
    boxes = warp_boxes(np.zeros((size, 4), np.float32), np.eye(3))
    assert boxes.shape == (size, 4) and boxes.dtype == np.float32


# ---------------------------------------------------------------- strong shrinking
def test_shrinking_to_a_whole_part_averages_blocks(rng):
    image = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    canvas = np.zeros((3, 5, 3), np.uint8)
    draw_warped(canvas, image, scaling(1 / 4, 1 / 4))
    expected = image.reshape(3, 4, 5, 4, 3).mean(axis=(1, 3))
    assert np.abs(canvas - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("zoom", [(0.12, 0.12), (0.3, 0.3), (0.45, 0.2), (0.34, 0.8)])
def test_shrinking_by_any_factor_is_near_the_average_under_each_pixel(zoom):
    x, y = np.meshgrid(np.linspace(0, 9, 403), np.linspace(0, 7, 301))
    image = np.stack(
        [128 + 90 * np.sin(x + phase) * np.cos(y - phase) for phase in range(3)], axis=-1
    ).astype(np.uint8)
    width, height = int(403 * zoom[0]), int(301 * zoom[1])
    canvas, fine = (
        np.zeros((height, width, 3), np.uint8),
        np.zeros((height * 10, width * 10, 3), np.uint8),
    )
    draw_warped(canvas, image, translation(0.3, -0.2) @ scaling(*zoom))
    draw_warped(fine, image, scaling(10, 10) @ translation(0.3, -0.2) @ scaling(*zoom))
    average = fine.reshape(height, 10, width, 10, 3).mean(axis=(1, 3))
    # the border is half outside
    assert np.abs(canvas - average)[1:-1, 1:-1].max() < 2.5


def test_shrinking_to_less_than_a_pixel_keeps_one():
    canvas = np.zeros((3, 3, 3), np.uint8)
    draw_warped(canvas, np.full((7, 5, 3), 90, np.uint8), translation(1.2, 1.2) @ scaling(0.1, 0.1))
    assert canvas[..., 0].tolist() == [[0, 0, 0], [0, 90, 0], [0, 0, 0]]

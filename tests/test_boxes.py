import numpy as np
import pytest

from mindyolo_v4.boxes import (
    area_xyxy,
    clip_xyxy,
    cxcywh_to_xyxy,
    letterbox_geometry,
    pairwise_iou,
    resize_geometry,
    shape_iou,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

BOX_XYXY = np.array([[10.0, 20.0, 50.0, 100.0]])


def test_formats_by_hand():
    np.testing.assert_array_equal(xyxy_to_cxcywh(BOX_XYXY), [[30, 60, 40, 80]])
    np.testing.assert_array_equal(xyxy_to_xywh(BOX_XYXY), [[10, 20, 40, 80]])


def test_formats_round_trip(rng):
    low = rng.uniform(0, 100, (5, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 50, (5, 2))], axis=1)
    np.testing.assert_allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)


def test_formats_take_no_boxes():
    assert xyxy_to_cxcywh(np.zeros((0, 4))).shape == (0, 4)
    assert pairwise_iou(np.zeros((0, 4)), BOX_XYXY).shape == (0, 1)


def test_clip_and_area():
    boxes = np.array([[-5.0, -5.0, 20.0, 30.0], [60.0, 10.0, 70.0, 20.0]])
    clipped = clip_xyxy(boxes, width=10, height=20)
    np.testing.assert_array_equal(clipped, [[0, 0, 10, 20], [10, 10, 10, 20]])
    np.testing.assert_array_equal(area_xyxy(clipped), [200, 0])
    np.testing.assert_array_equal(area_xyxy(np.array([[5.0, 5.0, 0.0, 0.0]])), [0])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.5, 0.5, 0.4, 0.4), (0.6, 0.6, 0.4, 0.4), 0.391304),
        ((0.30, 0.30, 0.20, 0.40), (0.36, 0.33, 0.30, 0.26), 0.454880),
        ((0.2, 0.2, 0.1, 0.1), (0.7, 0.8, 0.2, 0.1), 0.0),
        ((0.5, 0.5, 0.6, 0.2), (0.5, 0.5, 0.2, 0.6), 0.2),
        ((0.5, 0.5, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), 0.0),
    ],
)
def test_pairwise_iou(first, second, expected):
    boxes = cxcywh_to_xyxy(np.array([first, second]))
    iou = pairwise_iou(boxes[:1], boxes[1:])
    assert iou.shape == (1, 1)
    assert iou[0, 0] == pytest.approx(expected, abs=1e-6)


def test_shape_iou_by_hand():
    # Sizes 4 x 2 and 2 x 4 share 2 x 2 of 8 + 8 - 4.
    np.testing.assert_allclose(
        shape_iou(np.array([[4.0, 2.0]]), np.array([[2.0, 4.0], [4.0, 2.0]])), [[1 / 3, 1]]
    )
    np.testing.assert_array_equal(shape_iou(np.zeros((1, 2)), np.zeros((1, 2))), [[0]])


def test_letterbox_by_hand():
    geometry = letterbox_geometry(640, 480, 416)  # scale 0.65: 416 x 312, (416 - 312) / 2 above
    assert (geometry.resized_width, geometry.resized_height) == (416, 312)
    assert (geometry.pad_left, geometry.pad_top) == (0, 52)
    np.testing.assert_allclose(
        geometry.to_input(np.array([[64.0, 48.0, 320.0, 240.0]])), [[41.6, 83.2, 208, 208]]
    )


def test_letterbox_odd_border_has_its_extra_pixel_at_the_end():
    geometry = letterbox_geometry(100, 33, 100)  # 67 rows of border: 33 above, 34 below
    assert (geometry.pad_top, geometry.resized_height) == (33, 33)


def test_an_input_that_is_no_square():
    geometry = letterbox_geometry(200, 100, 608, 352)  # scale 3.04: 608 x 304, 24 above
    assert (geometry.resized_width, geometry.resized_height) == (608, 304)
    assert (geometry.pad_left, geometry.pad_top) == (0, 24)
    stretched = resize_geometry("stretch", 200, 100, 608, 352)
    np.testing.assert_allclose(
        stretched.to_input(np.array([[50.0, 50.0, 100.0, 100.0]])), [[152, 176, 304, 352]]
    )


def test_letterbox_keeps_one_pixel_of_a_thin_image():
    assert letterbox_geometry(10000, 2, 416).resized_height == 1


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_geometry_inverse(resize, rng):
    geometry = resize_geometry(resize, 501, 333, 416)
    low = rng.uniform(0, 200, (4, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 100, (4, 2))], axis=1)
    np.testing.assert_allclose(geometry.to_original(geometry.to_input(boxes)), boxes)


def test_to_original_clips_to_the_image():
    geometry = resize_geometry("stretch", 200, 100, 400)
    np.testing.assert_array_equal(
        geometry.to_original(np.array([[-4.0, -4.0, 404.0, 200.0]])), [[0, 0, 200, 50]]
    )

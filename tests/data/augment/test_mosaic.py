"""Both mosaics: darknet's own label vectors, hand-computed tiles, boxes found by their paint."""

import colorsys

import numpy as np
import pytest

from mindyolo_v4.boxes import letterbox_geometry
from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.augment.geometry import (
    Sides,
    crop_matrix,
    mirror,
    translation,
    warp_boxes,
    warp_sample,
)
from mindyolo_v4.data.augment.mosaic import (
    canvas_matrix,
    canvas_mosaic,
    darknet_mosaic,
    move_pads,
    place_tile_boxes,
    tile_offset,
    view_shifts,
)
from mindyolo_v4.data.sample import Sample

# ---------------------------------------------------------------- vectors from darknet itself
SIZE, CUT = 608, (240, 360)
SOURCES = [
    [(0.80, 0.85, 0.20, 0.20), (0.30, 0.30, 0.10, 0.10)],
    [(0.16, 0.80, 0.30, 0.30), (0.50, 0.50, 0.20, 0.40)],
    [(0.90, 0.20, 0.25, 0.30), (0.62, 0.10, 0.10, 0.10)],
    [(0.20, 0.20, 0.30, 0.20), (0.95, 0.95, 0.06, 0.06)],
]
TILES = [(0, 0, 240, 360), (240, 0, 608, 360), (0, 360, 240, 608), (240, 360, 608, 608)]
SHIFTED = Sides(left=30, right=20, top=10, bottom=40)
EXPECTED = {  # (bound, shifted): the eight boxes c0 .. c7, None = dropped
    (False, False): [
        (0.194737, 0.442105, 0.2, 0.2),
        None,
        (0.554737, 0.392105, 0.3, 0.3),
        (0.894737, 0.145559, 0.2, 0.293092),
        (0.294737, 0.792105, 0.25, 0.3),
        (0.032007, 0.692105, 0.065461, 0.1),
        (0.594737, 0.792105, 0.3, 0.2),
        None,
    ],
    (False, True): [
        (0.227632, 0.507895, 0.2, 0.2),
        None,
        (0.505395, 0.457895, 0.3, 0.3),
        (0.845395, 0.178454, 0.2, 0.358882),
        (0.327632, 0.775658, 0.25, 0.3),
        (0.048454, 0.675658, 0.098355, 0.1),
        (0.545395, 0.775658, 0.3, 0.2),
        None,
    ],
    (True, False): [
        (0.194079, 0.441612, 0.200658, 0.199013),
        None,
        (0.554276, 0.391447, 0.299342, 0.299342),
        (0.893914, 0.145559, 0.199013, 0.291118),
        (0.282072, 0.791118, 0.225329, 0.299342),
        (0.032072, 0.691612, 0.064145, 0.100329),
        (0.593750, 0.791118, 0.299342, 0.200658),
        None,
    ],
    (True, True): [
        (0.226974, 0.5, 0.200658, 0.184211),
        None,
        (0.524671, 0.449836, 0.259868, 0.284539),
        (0.844572, 0.178454, 0.199013, 0.356908),
        (0.298520, 0.774671, 0.192434, 0.299342),
        (0.048520, 0.675164, 0.097039, 0.100329),
        (0.544408, 0.774671, 0.299342, 0.200658),
        None,
    ],
}


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_label_vectors(bound, shifted):
    got = []
    for tile, boxes in enumerate(SOURCES):
        offset = tile_offset(tile, CUT, SHIFTED if shifted else Sides(), SIZE)
        placed, kept = place_tile_boxes(
            np.array(boxes, np.float32), offset, TILES[tile] if bound else None, SIZE
        )
        assert placed.dtype == np.float32
        got += [box if keep else None for box, keep in zip(placed, kept, strict=True)]
    for box, expected in zip(got, EXPECTED[bound, shifted], strict=True):
        assert (box is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(box, expected, atol=1.5e-6)


# ---------------------------------------------------------------- darknet's pads and shifts
def test_pads_move_to_the_hidden_side():
    pads = Sides(left=-5, top=-3, right=7, bottom=-4)
    assert move_pads(pads, 0, False) == Sides(left=0, top=0, right=2, bottom=-7)
    assert move_pads(pads, 1, False) == Sides(left=2, top=0, right=0, bottom=-7)
    assert move_pads(pads, 2, False) == Sides(left=0, top=-7, right=2, bottom=0)
    assert move_pads(pads, 3, False) == Sides(left=2, top=-7, right=0, bottom=0)
    assert move_pads(pads, 0, True) == Sides(left=2, top=0, right=0, bottom=-7)
    assert move_pads(pads, 3, True) == Sides(left=0, top=-7, right=2, bottom=0)


def test_view_shifts_are_padding_in_output_pixels():
    pads = Sides(left=-33, top=-10, right=20, bottom=-50)
    assert view_shifts(pads, False, (200, 100), (240, 360), 608) == Sides(
        left=100, top=60, right=0, bottom=248
    )
    # 33 x 608 / 200 = 100.3; 10 x 608 / 100 = 60.8; crop on the right; 304 limited to 608 - 360
    assert view_shifts(pads, True, (200, 100), (240, 360), 608) == Sides(
        left=0, top=60, right=100, bottom=248
    )


def test_darknet_tiles_show_the_corners_that_the_table_says():
    # no jitter: four 64 x 64 images are shown as they are, each by one corner
    images = [
        np.random.default_rng(tile).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for tile in range(4)
    ]
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    mosaic = darknet_mosaic(
        [Sample(image, *none) for image in images], np.random.default_rng(5), darknet(size=64)
    )
    cut_x, cut_y = np.random.default_rng(5).integers(12, 51, 2, endpoint=True)
    np.testing.assert_array_equal(
        mosaic.image[:cut_y, :cut_x], images[0][64 - cut_y :, 64 - cut_x :]
    )
    np.testing.assert_array_equal(
        mosaic.image[:cut_y, cut_x:], images[1][64 - cut_y :, : 64 - cut_x]
    )
    np.testing.assert_array_equal(
        mosaic.image[cut_y:, :cut_x], images[2][: 64 - cut_y, 64 - cut_x :]
    )
    np.testing.assert_array_equal(
        mosaic.image[cut_y:, cut_x:], images[3][: 64 - cut_y, : 64 - cut_x]
    )


def test_darknet_fills_with_the_mean_colour():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = (200, 100, 50)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    data = darknet(size=64, jitter=0.45)
    seen = {
        tuple(pixel)
        for seed in range(20)
        for pixel in darknet_mosaic(
            [Sample(image, *none)] * 4, np.random.default_rng(seed), data
        ).image.reshape(-1, 3)
    }
    assert (100, 50, 25) in seen
    assert (114, 114, 114) not in seen


# ---------------------------------------------------------------- canvas
def test_canvas_matrixs_a_corner_of_each_image_at_the_centre():
    fitted = letterbox_geometry(200, 100, 64)  # 64 x 32
    whole = np.array([[0, 0, 200, 100]], np.float32)
    places = [
        warp_boxes(whole, canvas_matrix(tile, (50, 70), fitted))[0].tolist() for tile in range(4)
    ]
    assert places == [[-14, 38, 50, 70], [50, 38, 114, 70], [-14, 70, 50, 102], [50, 70, 114, 102]]


def test_canvas_centre_lies_in_the_middle_half():
    boxes = np.array([[0, 0, 64, 64]], np.float32)
    data = DataConfig(img_size=64, augment=AugmentConfig())
    edges = []
    for seed in range(200):
        samples = [
            Sample(np.full((64, 64, 3), 60 * tile, np.uint8), boxes, np.array([tile]))
            for tile in range(4)
        ]
        mosaic = canvas_mosaic(samples, np.random.default_rng(seed), data)
        tile, box = int(mosaic.class_ids[0]), mosaic.boxes_xyxy_px[0]
        edges.append(float(box[2] if tile in (0, 2) else box[0]))
    # the 2s canvas is shown from s/2 on: a centre in [s/2, 3s/2) is seen in [0, s)
    assert min(edges) < 4 and max(edges) > 59


def test_canvas_shows_four_images_without_a_seam():
    boxes = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    samples = [Sample(np.full((64, 64, 3), 50 + 40 * tile, np.uint8), *boxes) for tile in range(4)]
    data = DataConfig(img_size=64, augment=AugmentConfig())
    for seed in range(5):
        levels = np.unique(canvas_mosaic(samples, np.random.default_rng(seed), data).image)
        assert set(levels.tolist()) <= {50, 90, 130, 170}  # no pad (114), nothing in between


def test_images_are_cut_at_the_canvas_border():
    # zoom 0.5 and less shows what lies outside the canvas: nothing may be drawn there
    white = np.full((64, 64, 3), 255, np.uint8)
    boxes = np.array([[0, 0, 64, 64]], np.float32)
    data = DataConfig(img_size=64, augment=AugmentConfig(scale=0.9))
    for seed in range(30):
        mosaic = canvas_mosaic(
            [Sample(white, boxes, np.array([0]))] * 4, np.random.default_rng(seed), data
        )
        rows, columns = np.nonzero(mosaic.image[..., 0] == 255)
        zoom = (
            1 + (np.random.default_rng(seed).uniform(0, 1, 6)[5] * 2 - 1) * 0.9
        )  # the sixth number drawn
        assert columns.max() - columns.min() + 1 <= 128 * zoom + 2
        assert mosaic.boxes_xyxy_px[:, 0].min() >= columns.min() - 1.5
        assert mosaic.boxes_xyxy_px[:, 3].max() <= rows.max() + 2.5


# ---------------------------------------------------------------- paint
SIDE = 160  # output


def darknet(size=SIDE, **strengths):
    return DataConfig(img_size=size, augment=AugmentConfig(mosaic="darknet", **strengths))


def painted_sample(rng, first_class):
    """Draw three far apart boxes, each filled with the colour of its class, on black."""
    width, height = int(rng.integers(150, 260)), int(rng.integers(150, 260))
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for number in range(3):
        left, top = 6 + number * width // 3 + rng.integers(0, 4), rng.integers(0, height // 3)
        right, bottom = (
            (number + 1) * width // 3 - rng.integers(0, 4),
            rng.integers(height // 2, height + 1),
        )
        image[top:bottom, left:right] = colour(first_class + number)
        boxes.append([left, top, right, bottom])
    return Sample(image, np.array(boxes, np.float32), np.arange(first_class, first_class + 3))


def colour(class_id):
    hue = (class_id // 3 + 4 * (class_id % 3)) / 12  # the three of an image mix to grey
    return [round(255 * level) for level in colorsys.hsv_to_rgb(hue, 1.0, 1.0)]


def painted_extent(image, class_id):
    """Return the box around the pixels of a class's hue that are at least half covered, or None."""
    level = image.max(axis=2).astype(float)
    shade = image / np.maximum(level, 1)[..., None] - np.array(colour(class_id)) / 255
    rows, columns = np.nonzero((level >= 127) & (np.abs(shade).max(axis=2) < 0.15))
    if len(rows) == 0:
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def check_paint(mosaic, upright=True):
    found = dict(zip(mosaic.class_ids.tolist(), mosaic.boxes_xyxy_px, strict=True))
    for class_id in range(12):
        extent, box = painted_extent(mosaic.image, class_id), found.get(class_id)
        if box is None:
            assert extent is None or (extent[2:] - extent[:2]).min() <= 3, (
                f"class {class_id} is seen but has no box"
            )
            continue
        if (box[2:] - box[:2]).min() < 4:
            continue  # a sliver has no half-covered pixel of its own
        is_cut = (box[:2] <= 0).any() or (box[2:] >= SIDE).any()
        if extent is None and is_cut and not upright:
            continue  # only an empty corner of the enclosing box reaches the canvas
        assert extent is not None, f"class {class_id} has a box but is not seen"
        if upright or not is_cut:
            np.testing.assert_allclose(extent, box, atol=1.5)
        else:  # the enclosing box of a rotated one is not tight where it is cut
            assert (extent[:2] >= box[:2] - 1.5).all() and (extent[2:] <= box[2:] + 1.5).all()
    return len(found)


def four_painted(seed):
    rng = np.random.default_rng(1000 + seed)
    return [painted_sample(rng, 3 * tile) for tile in range(4)]


STRENGTHS = {
    "shift and zoom": {"translate": 0.1, "scale": 0.5},
    "full": {"degrees": 30.0, "translate": 0.1, "scale": 0.4, "shear": 10.0},
    "perspective": {"degrees": 10.0, "scale": 0.3, "perspective": 0.0006},
}


@pytest.mark.parametrize("name", STRENGTHS)
def test_canvas_paint_lies_where_the_boxes_are(name):
    augment = AugmentConfig(mosaic="canvas", **STRENGTHS[name])
    data = DataConfig(img_size=SIDE, augment=augment)
    boxes = sum(
        check_paint(
            canvas_mosaic(four_painted(seed), np.random.default_rng(seed), data),
            name == "shift and zoom",
        )
        for seed in range(25)
    )
    assert boxes > 100


def test_darknet_paint_lies_where_the_boxes_are():
    data = darknet(jitter=0.3, flip_prob=0.5, mosaic_bound=True)
    boxes = sum(
        check_paint(darknet_mosaic(four_painted(s), np.random.default_rng(s), data))
        for s in range(40)
    )
    assert boxes > 150


def test_darknet_without_bound_keeps_the_overhang_at_seams_only():
    data = darknet(jitter=0.3, flip_prob=0.5)
    overhangs = 0
    for seed in range(40):
        mosaic = darknet_mosaic(four_painted(seed), np.random.default_rng(seed), data)
        cut = np.random.default_rng(seed).integers(
            int(0.2 * SIDE), int(0.8 * SIDE), 2, endpoint=True
        )
        for class_id, box in zip(mosaic.class_ids, mosaic.boxes_xyxy_px, strict=True):
            right_tile, lower_tile = class_id // 3 in (1, 3), class_id // 3 in (2, 3)
            low = np.array([cut[0] if right_tile else 0, cut[1] if lower_tile else 0])
            high = np.array([SIDE if right_tile else cut[0], SIDE if lower_tile else cut[1]])
            inside = np.concatenate([np.maximum(box[:2], low), np.minimum(box[2:], high)])
            extent = painted_extent(mosaic.image, int(class_id))
            overhangs += int(np.abs(inside - box).max() > 1)
            if (inside[2:] - inside[:2]).min() > 4:
                np.testing.assert_allclose(extent, inside, atol=1.5)
    assert overhangs > 0


def test_paint_of_a_single_jittered_and_mirrored_image(rng):
    for seed in range(20):
        sample = four_painted(seed)[0]
        height, width = sample.image.shape[:2]
        pads = Sides(*(int(pad) for pad in rng.integers(-30, 30, 4)))
        matrix = translation(0.4, -0.7) @ mirror(SIDE) @ crop_matrix(pads, width, height, SIDE)
        check_paint(warp_sample(sample, matrix, SIDE, (0, 0, 0), AugmentConfig()))


@pytest.mark.parametrize("make", [canvas_mosaic, darknet_mosaic])
def test_mosaics_leave_their_inputs_alone(make):
    samples = four_painted(0)
    before = [(sample.image.copy(), sample.boxes_xyxy_px.copy()) for sample in samples]
    augment = AugmentConfig(jitter=0.3, scale=0.5, hue=0.1, saturation=0.5, value=0.5)
    make(samples, np.random.default_rng(0), DataConfig(img_size=SIDE, augment=augment))
    for sample, (image, boxes) in zip(samples, before, strict=True):
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.boxes_xyxy_px, boxes)


def test_min_visible_counts_what_the_canvas_cuts():
    # boxes fill their images; centred canvas of zoom 1 shows a part of each
    boxes = np.array([[0, 0, 64, 64]], np.float32)
    samples = [
        Sample(np.zeros((64, 64, 3), np.uint8), boxes, np.array([tile])) for tile in range(4)
    ]
    for seed in range(20):
        loose, strict = (
            canvas_mosaic(
                samples,
                np.random.default_rng(seed),
                DataConfig(img_size=64, augment=AugmentConfig(min_visible=share)),
            )
            for share in (0.0, 0.4)
        )
        areas = (loose.boxes_xyxy_px[:, 2:] - loose.boxes_xyxy_px[:, :2]).prod(axis=1) / 64**2
        assert strict.class_ids.tolist() == loose.class_ids[areas >= 0.4].tolist()

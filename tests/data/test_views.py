"""Views of an image: tiles that cover it, inputs of other sizes, boxes that come back."""

import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.data.images import fit_image
from mindyolo_v4.data.views import ImageViews, Region, Variant, cut_regions, input_variants

DATA = DataConfig(img_size=64)


def views(sizes=((150, 64),), data=DATA, **settings):
    return ImageViews(np.array(sizes), data, EvaluateConfig(**settings))


def test_tiles_of_a_row_and_the_whole_image():
    # 150 - 64 = 86 pixels to go in steps of at most 64 x 0.8 = 51: two steps of 43
    assert cut_regions(150, 40, 64, 0.2) == (
        Region(0, 0, 64, 40),
        Region(43, 0, 64, 40),
        Region(86, 0, 64, 40),
        Region(0, 0, 150, 40),
    )


@pytest.mark.parametrize(("width", "height", "tile"), [(64, 64, 64), (10, 64, 96), (70, 7, None)])
def test_an_image_that_fits_is_not_cut(width, height, tile):
    assert cut_regions(width, height, tile, 0.2) == (Region(0, 0, width, height),)


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.9])
@pytest.mark.parametrize(("width", "height"), [(65, 64), (500, 333), (1000, 40), (64, 4000)])
def test_tiles_cover_the_image_and_overlap(width, height, overlap):
    *tiles, whole = cut_regions(width, height, 64, overlap)
    assert whole == Region(0, 0, width, height)
    covered = np.zeros((height, width), bool)
    for tile in tiles:
        assert (tile.width, tile.height) == (min(64, width), min(64, height))
        covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = True
    assert covered.all()
    for side, starts in ((width, {t.left for t in tiles}), (height, {t.top for t in tiles})):
        distances = np.diff(sorted(starts))
        assert (distances <= 64 * (1 - overlap) + 1).all()
        assert max(starts) + min(64, side) == side


def test_variants_are_sizes_and_mirrors_in_order():
    assert input_variants(DATA, EvaluateConfig()) == [Variant(64, 64, False)]
    wide = DataConfig(img_size=128, img_height=64)
    settings = EvaluateConfig(tta=True, tta_scales=(1.0, 1.5, 0.26))
    assert input_variants(wide, settings) == [
        *(Variant(128, 64, False), Variant(128, 64, True)),
        *(Variant(192, 96, False), Variant(192, 96, True)),
        *(Variant(32, 32, False), Variant(32, 32, True)),
    ]
    plain = EvaluateConfig(tta=True, tta_scales=(1.0, 1.1), tta_flip=False)
    assert input_variants(DATA, plain) == [Variant(64, 64, False)]  # 70.4 rounds to 64


def test_numbers_go_by_image_region_and_variant():
    own = views([(64, 64), (150, 64)], tile=64, tta=True, tta_scales=(1.0,))
    assert own.regions_of(np.array([1, 0])).tolist() == [1, 2, 3, 4, 0]
    assert [own.image_of(region) for region in range(5)] == [0, 1, 1, 1, 1]
    listed = [own.view(number) for number in range(10)]
    assert [view.image for view in listed] == [0, 0, *[1] * 8]
    assert [view.count for view in listed] == [2, 2, *[8] * 8]
    assert [view.region.left for view in listed] == [0, 0, 0, 0, 43, 43, 86, 86, 0, 0]
    assert [view.is_mirrored for view in listed] == [False, True] * 5
    assert own.summary() == (
        "2 images, 5 regions, 2 variants of each; a graph for each input size: 64 x 64"
    )


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_the_only_view_is_what_testing_sees_today(rng, resize):
    data = DataConfig(img_size=64, resize=resize)
    image = rng.integers(0, 256, (50, 90, 3), np.uint8)
    view = views([(90, 50)], data).view(0)
    np.testing.assert_array_equal(view.fit(image, data.pad_value), fit_image(image, data))
    boxes = rng.uniform(0, 64, (5, 4)).astype(np.float32)
    moved = view.to_original(boxes)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, view.geometry.to_original(boxes))


def test_boxes_of_a_mirrored_tile_come_back():
    # Tile 43..107 of the image, 1:1 in the input; the mirrored x is 64 - x.
    view = views(tile=64, tta=True, tta_scales=(1.0,)).view(3)
    image = np.zeros((64, 150, 3), np.uint8)
    image[10:30, 50:60] = 200
    fitted = view.fit(image, 114)
    rows, columns = np.nonzero(fitted[:, :, 0])
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    assert seen.tolist() == [[64 - (60 - 43), 10, 64 - (50 - 43), 30]]
    assert view.to_original(seen).tolist() == [[50, 10, 60, 30]]


def test_boxes_are_clipped_to_their_region():
    view = views(tile=64).view(1)
    boxes = np.array([[-5, -5, 70, 70]], np.float32)
    assert view.to_original(boxes).tolist() == [[43, 0, 107, 64]]


def test_a_box_is_cut_at_the_inner_edges_of_its_tile_only():
    first, middle, last, whole = (views(tile=64).view(number) for number in range(4))
    boxes = np.array([[0, 0, 20, 64], [20, 5, 63.5, 20], [43.5, 5, 60, 20], [86, 5, 107, 20]])
    assert first.is_cut(boxes[:2]).tolist() == [False, True]
    assert middle.is_cut(boxes[2:]).tolist() == [True, True]
    assert last.is_cut(np.array([[86, 0, 150, 64], [90, 0, 150, 64]])).tolist() == [True, False]
    assert not whole.is_cut(boxes).any()

"""Anchors: clusters whose centres are known, quality by hand, refinement, and anchor numbers."""

from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.data.anchor_fit import (
    anchor_quality,
    box_sizes,
    cluster,
    describe_anchors,
    fit_anchors,
    fitness,
    network_anchors,
    refine,
    with_fitted_anchors,
)
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.errors import UserError


def test_finds_the_centres_of_separate_clusters(rng: np.random.Generator) -> None:
    centres = np.array([[10.0, 30], [40, 20], [100, 90], [30, 200]])
    sizes = (centres[:, None] * rng.uniform(0.95, 1.05, (4, 50, 2))).reshape(-1, 2)
    clustered = cluster(rng.permutation(sizes), 4, rng)
    by_area = clustered[np.argsort(clustered.prod(axis=1))]
    np.testing.assert_allclose(by_area, centres[[0, 1, 3, 2]], rtol=0.02)  # 300, 800, 6000, 9000


def test_as_many_clusters_as_sizes_fit_exactly(rng: np.random.Generator) -> None:
    sizes = np.array([[3.0, 4], [7, 9], [50, 60]])
    fitted = fit_anchors(np.tile(sizes, (7, 1)), 3, rng, generations=20)
    np.testing.assert_array_equal(fitted, sizes)


def test_seed_decides(rng: np.random.Generator) -> None:
    sizes = rng.uniform(5, 100, (300, 2))
    first, second = (fit_anchors(sizes, 5, np.random.default_rng(3), 30) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_quality_by_hand() -> None:
    """IoU of 10 x 10 with 10 x 5: 50 / 100; of 4 x 2 with 10 x 5: 8 / 50."""
    sizes = np.array([[10.0, 10], [4, 2]])
    anchors = np.array([[10.0, 5], [200, 200]])
    mean, recall = anchor_quality(sizes, anchors)
    assert mean == pytest.approx((0.5 + 0.16) / 2)
    assert recall == 0.5
    assert fitness(sizes, anchors) == pytest.approx(0.5 / 2)  # 0.16 does not exceed 0.213
    (line,) = describe_anchors(sizes, (("present", anchors),))
    assert line == "present  mean best IoU 0.3300, best IoU > 0.213 for 50.00% of the boxes"


def test_refinement_moves_towards_the_boxes_and_never_back(rng: np.random.Generator) -> None:
    """One size of box: the best anchor is that size, with fitness 1."""
    sizes = np.full((5, 2), 60.0)
    start = np.array([[40.0, 40], [200, 10]])
    before = fitness(sizes, start)
    assert before == pytest.approx(1600 / 3600)
    some = refine(sizes, start, rng, 30)
    more = refine(sizes, some, rng, 300)
    assert before < fitness(sizes, some) <= fitness(sizes, more)
    assert fitness(sizes, more) > 0.95
    np.testing.assert_array_equal(refine(sizes, start, rng, 0), start)


def test_refinement_improves_on_k_means(rng: np.random.Generator) -> None:
    sizes = np.exp(rng.normal(3.5, 0.7, (400, 2)))
    clustered = cluster(sizes, 4, rng)
    assert fitness(sizes, refine(sizes, clustered, rng, 200)) > fitness(sizes, clustered) + 1e-4


# ---------------------------------------------------------------- into the configuration

MODEL = ModelConfig(anchors_wh_px="auto")


def test_anchors_fill_the_numbers_that_the_levels_use(rng: np.random.Generator) -> None:
    sizes = rng.uniform(5, 100, (200, 2))
    for model in (MODEL, ModelConfig(anchors_wh_px="auto", anchor_masks=((0,), (1, 2), (2, 4)))):
        fitted, strides = with_fitted_anchors(model, sizes, seed=1)
        assert strides[:2] == [8, 16]
        anchors = np.array(fitted.anchor_set.anchors_wh_px)
        assert len(anchors) == max(model.used_anchors) + 1
        used = anchors[list(model.used_anchors)]
        assert (np.diff(used.prod(axis=1)) >= 0).all() and (used == np.rint(used)).all()
    assert anchors[3].tolist() == [1.0, 1.0]  # no level uses number 3


def test_fitted_anchors_fit_better_than_those_of_the_network(rng: np.random.Generator) -> None:
    for sizes in (rng.uniform(5, 100, (200, 2)), np.exp(rng.normal(3.5, 0.7, (400, 2)))):
        fitted, _ = with_fitted_anchors(MODEL, sizes, seed=1)
        of_network = anchor_quality(sizes, network_anchors(MODEL))
        assert anchor_quality(sizes, network_anchors(fitted)) > of_network


def test_the_unused_anchor_of_tiny_takes_no_box(rng: np.random.Generator) -> None:
    tiny = ModelConfig("yolov4-tiny", anchors_wh_px="auto")
    assert tiny.used_anchors == (1, 2, 3, 4, 5)
    fitted, _ = with_fitted_anchors(tiny, rng.uniform(5, 100, (200, 2)), seed=1)
    assert fitted.anchors_wh_px[0] == (1.0, 1.0)
    assert len(network_anchors(tiny)) == len(network_anchors(fitted)) == 5


def test_a_level_takes_the_boxes_from_three_of_its_strides_on(rng: np.random.Generator) -> None:
    """Boxes of about 30 and 60 px: 60 px is 3.75 strides of 16, and none has 3 strides of 32."""
    sizes = np.concatenate([rng.uniform(27, 33, (90, 2)), rng.uniform(55, 65, (10, 2))])
    model, strides = with_fitted_anchors(MODEL, sizes, seed=1)
    assert strides == [8, 16]
    fine, middle, coarse = np.array(model.anchors_wh_px).reshape(3, 3, 2)
    assert ((fine >= 27) & (fine <= 33)).all()
    assert ((middle >= 55) & (middle <= 65)).all()
    assert coarse.tolist() == [[142, 110], [192, 243], [459, 401]]  # those of YOLOv4


def test_a_shared_anchor_belongs_to_the_finer_level(rng: np.random.Generator) -> None:
    """Numbers 1 to 3 of yolov4-tiny are of stride 16, which also lends 3 to stride 32."""
    tiny = ModelConfig("yolov4-tiny", anchors_wh_px="auto")
    sizes = np.concatenate([rng.uniform(20, 60, (50, 2)), rng.uniform(120, 180, (50, 2))])
    model, strides = with_fitted_anchors(tiny, sizes, seed=1)
    assert strides == [16, 32]
    sides = np.sqrt(np.prod(model.anchors_wh_px, axis=1))
    assert (sides[1:4] < 60).all() and (sides[4:] > 120).all()


def test_a_level_that_keeps_its_anchors_keeps_those_of_its_numbers(
    rng: np.random.Generator,
) -> None:
    """Stride 32 of yolov4-tiny has the numbers 3 to 5; number 3 is fitted at stride 16."""
    tiny = ModelConfig("yolov4-tiny", anchors_wh_px="auto")
    model, strides = with_fitted_anchors(tiny, rng.uniform(20, 60, (50, 2)), seed=1)
    assert strides == [16]
    assert model.anchors_wh_px[4:] == ((135, 169), (344, 319))  # of yolov4-tiny.cfg


def test_too_few_sizes_leave_the_anchors_of_the_network() -> None:
    sizes = np.array([[3.0, 4], [5, 6], [3, 4]])
    model, strides = with_fitted_anchors(MODEL, sizes, seed=1)
    assert strides == []
    assert model.anchors_wh_px == tuple(map(tuple, network_anchors(MODEL).tolist()))


def test_auto_is_no_list_of_anchors() -> None:
    with pytest.raises(UserError, match=r"model\.anchors_wh_px: auto has no meaning without a tra"):
        _ = MODEL.anchor_set
    with pytest.raises(UserError, match=r"model\.anchors_wh_px: a classifier has no anchors"):
        ModelConfig("cspdarknet53", anchors_wh_px="auto")
    masks = ((0,), (1,), ())
    with pytest.raises(UserError, match=r"model\.anchor_masks: not numbers of anchors"):
        ModelConfig(anchors_wh_px="auto", anchor_masks=masks)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_box_sizes_of_images_of_several_sizes(resize):
    rng = np.random.default_rng(0)
    records = []
    for number, (width, height) in enumerate([(640, 480), (427, 640), (640, 480), (301, 77)]):
        corners = np.sort(rng.random((number, 2, 2)), axis=1) * [width, height]
        xyxy = corners.reshape(-1, 4).astype(np.float32)
        flags = np.arange(number) == 1
        ids = np.zeros(number, np.int64)
        areas = np.ones(number)
        records.append(
            ImageRecord(Path("a"), width, height, xyxy, ids, flags, flags, areas, number, "")
        )
    data = DataConfig(resize=resize, img_size=416)
    found = box_sizes(Dataset(Records(records), ("a",), (1,), "set", ()), data)
    expected = []
    for one in records:
        sides = (one.boxes_xyxy_px[:, 2:] - one.boxes_xyxy_px[:, :2])[~one.ignore]
        scale = np.array([416 / one.width, 416 / one.height])
        if resize == "letterbox":
            fitted = np.round(np.array([one.width, one.height]) * scale.min())
            scale = fitted / [one.width, one.height]
        expected.append(sides * scale)
    assert [len(sides) for sides in expected] == [0, 1, 1, 2]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-3)

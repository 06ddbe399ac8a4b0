"""Views of one image: what a tile has cut off is dropped, the rest is suppressed once."""

import numpy as np
import pytest

from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.merge import ViewDetections, merge_views, view_settings


def part(*rows, cut=()):
    """Return the detections (left, top, right, bottom, score, class) of a view; `cut`: numbers."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    found = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))
    return ViewDetections(found, np.isin(np.arange(len(table)), cut))


def merged(*parts, predictors=1, **settings):
    found = merge_views(parts, EvaluateConfig(**settings), predictors)
    rows = np.column_stack([found.boxes_xyxy_px, found.scores, found.class_ids])
    return rows.round(4).tolist()


def test_one_view_is_returned_as_it_is():
    view = part((0, 0, 9, 9, 0.5, 0), (0, 0, 9, 9, 0.4, 0), cut=[0])
    assert merge_views([view], EvaluateConfig(), 1) is view.detections


def test_an_object_that_a_tile_cuts_is_found_once():
    whole = (80, 0, 120, 40, 0.9, 1)
    left_half = (80, 0, 100, 40, 0.95, 1)  # IoU 0.5: no suppression without the rule
    assert merged(part(left_half, cut=[0]), part(whole)) == [pytest.approx(whole)]
    assert len(merged(part(left_half), part(whole))) == 2


@pytest.mark.parametrize(
    "other",
    [
        (80, 0, 120, 40, 0.9, 2),  # another class
        (80, 0, 120, 40, 0.4, 1),  # less than half as certain
        (95, 0, 135, 40, 0.9, 1),  # holds a quarter of it
    ],
)
def test_a_cut_box_stays_where_no_whole_one_explains_it(other):
    assert len(merged(part((80, 0, 100, 40, 0.9, 1), cut=[0]), part(other))) == 2


def test_halves_of_what_no_view_sees_whole_stay():
    halves = part((80, 0, 100, 40, 0.9, 1), cut=[0]), part((100, 0, 120, 40, 0.8, 1), cut=[0])
    assert len(merged(*halves)) == 2


def test_views_enter_one_suppression():
    first = (0, 0, 10, 10, 0.9, 0)
    second = (2, 0, 12, 10, 0.6, 0)  # IoU 2 / 3
    views = part(first), part(second)
    assert merged(*views) == [pytest.approx(first)]
    assert merged(*views, iou_thres=0.7) == [pytest.approx(first), pytest.approx(second)]
    fused = pytest.approx((0.8, 0, 10.8, 10, 0.75, 0))
    assert merged(*views, nms="wbf", predictors=2) == [fused]
    assert merged(*views, nms="wbf", predictors=3) == [pytest.approx((0.8, 0, 10.8, 10, 0.5, 0))]
    soft = merged(*views, nms="soft_linear")
    assert [row[4] for row in soft] == pytest.approx([0.9, 0.2])
    assert merged(part(), part()) == []


@pytest.mark.parametrize(
    ("nms", "own"), [("iou", "iou"), ("diou", "diou"), ("soft_gaussian", "iou"), ("wbf", "iou")]
)
def test_each_view_is_suppressed_greedily_first(nms, own):
    assert view_settings(EvaluateConfig(nms=nms, max_det=7)) == EvaluateConfig(nms=own, max_det=7)

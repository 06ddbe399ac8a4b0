import pickle

import numpy as np
import pytest

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.losses.assign import (
    BOX_X,
    WEIGHT_BOX,
    WEIGHT_CLASS,
    WEIGHT_OBJECT,
    Assigner,
    matched_boxes,
)

SIDES = {608: (76, 38, 19), 416: (52, 26, 13), 32: (4, 2, 1)}


def assigner(img_size=608, classes=3, max_truths=10, threshold=0.213, architecture="yolov4"):
    return Assigner(
        ModelConfig(architecture=architecture).anchor_set, img_size, classes, max_truths, threshold
    )


def assign(assign_image, boxes, classes):
    return assign_image(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64))


def places(tables, sides, anchors_per_level=3):
    """Return (level, anchor of the level, row, column) of the rows that carry weight."""
    found = []
    for prediction, weight in zip(tables[0][0], tables[1][WEIGHT_BOX], strict=True):
        if weight > 0:
            rest = int(prediction)
            for level, side in enumerate(sides):
                if rest < anchors_per_level * side * side:
                    anchor, cell = divmod(rest, side * side)
                    found.append((level, anchor, *divmod(cell, side)))
                    break
                rest -= anchors_per_level * side * side
    return found


@pytest.mark.parametrize(
    ("size", "wh", "best", "positives"),
    [  # the nine anchors of yolov4.cfg; shape IoU by hand
        (608, (0.03, 0.05), 1, {0, 1, 2}),
        (608, (0.4, 0.5), 7, {7, 8}),
        (608, (0.1, 0.1), 4, {2, 3, 4, 5, 6}),
        (608, (0.2, 0.1), 4, {3, 4, 5, 6}),
        (608, (0.02, 0.02), 0, {0, 1}),
        (608, (0.9, 0.9), 8, {8}),
        (608, (0.05, 0.5), 5, {3, 5}),
        (416, (0.1, 0.1), 2, {1, 2, 3, 4}),
        (416, (0.2, 0.3), 5, {3, 4, 5, 6, 7}),
    ],
)
def test_matching_vectors(size, wh, best, positives):
    box = [(0.5, 0.5, *wh)]
    every = places(assign(assigner(size), box, [0]), SIDES[size])
    only = places(assign(assigner(size, threshold=1.0), box, [0]), SIDES[size])
    assert {3 * level + anchor for level, anchor, *_ in every} == positives
    assert [3 * level + anchor for level, anchor, *_ in only] == [best]


def test_cell_is_where_the_centre_lies():
    tables = assign(assigner(), [(0.30, 0.62, 0.35, 0.30)], [2])
    assert (2, 1, 11, 5) in places(tables, SIDES[608])
    row = int(np.flatnonzero(tables[1][WEIGHT_BOX])[0])
    np.testing.assert_allclose(
        tables[1][BOX_X:WEIGHT_BOX, row], np.array([0.30, 0.62, 0.35, 0.30]) * 608, rtol=1e-6
    )
    np.testing.assert_allclose(
        tables[2][:, 0], np.array([0.125, 0.47, 0.475, 0.77]) * 608, rtol=1e-6
    )


def test_centre_on_the_border_belongs_to_the_last_cell():
    found = places(
        assign(assigner(threshold=1.0), [(1.0, 1.0, 0.4, 0.5), (0.0, 0.0, 0.4, 0.5)], [0, 0]),
        SIDES[608],
    )
    assert found == [(2, 1, 18, 18), (2, 1, 0, 0)]


def test_classes_that_share_a_prediction_are_averaged():
    boxes = [(0.30, 0.62, 0.35, 0.30), (0.302, 0.618, 0.30, 0.33)]
    values = assign(assigner(), boxes, [2, 0])[1]
    ids = assign(assigner(), boxes, [2, 0])[0]
    shared = [p for p in np.unique(ids[0]) if (values[WEIGHT_BOX][ids[0] == p] == 0.5).sum() == 2]
    assert shared == [
        21101,
        21874,
        22235,
    ]  # 72 x 146 at stride 16 (IoU 0.27), anchors 0 and 1 at stride 32
    for prediction in shared:
        rows = (ids[0] == prediction) & (values[WEIGHT_BOX] > 0)
        assert values[WEIGHT_OBJECT][rows].tolist() == [1, 0]
        assert values[WEIGHT_CLASS][rows].tolist() == [1, 1]


def test_truths_of_one_class_are_summed():
    boxes = [(0.30, 0.62, 0.35, 0.30), (0.302, 0.618, 0.30, 0.33)]
    ids, values, _ = assign(assigner(), boxes, [2, 2])
    rows = values[WEIGHT_BOX] > 0
    assert (values[WEIGHT_BOX][rows] == 1).all()
    assert values[WEIGHT_OBJECT].sum() == values[WEIGHT_CLASS].sum() == len(np.unique(ids[0][rows]))


def test_best_anchor_only_does_not_average():
    boxes = [(0.5, 0.5, 0.4, 0.5)] * 2
    values = assign(assigner(threshold=1.0), boxes, [0, 1])[1]
    assert values[WEIGHT_BOX].tolist()[:2] == [1, 1]


def test_masks_say_which_levels_an_anchor_serves():
    # yolov4-tiny-custom: anchor 3 serves stride 32 alone, anchor 0 stride 16.
    model = ModelConfig("yolov4-tiny", anchor_masks=((0, 1, 2), (3, 4, 5)))
    custom = Assigner(model.anchor_set, 416, 5, 4, 1.0)
    first = places(assign(custom, [(0.5, 0.5, 10 / 416, 14 / 416)], [0]), (26, 13))
    assert first == [(0, 0, 13, 13)]
    fourth = places(assign(custom, [(0.5, 0.5, 81 / 416, 82 / 416)], [0]), (26, 13))
    assert fourth == [(1, 0, 6, 6)]


def test_tiny_anchor_3_is_positive_on_both_levels_and_anchor_0_on_none():
    tiny = assigner(416, threshold=1.0, architecture="yolov4-tiny")
    both = places(assign(tiny, [(0.5, 0.5, 81 / 416, 82 / 416)], [0]), (26, 13))
    assert both == [(0, 2, 13, 13), (1, 0, 6, 6)]
    assert places(assign(tiny, [(0.5, 0.5, 10 / 416, 14 / 416)], [0]), (26, 13)) == []


def test_padding_has_no_weight_and_valid_ids():
    ids, values, truths = assign(assigner(32, max_truths=4), [(0.5, 0.5, 0.4, 0.5)], [2])
    rows = int((values[WEIGHT_BOX] > 0).sum())
    assert ids.shape == (2, 36)
    assert values.shape == (7, 36)
    assert truths.shape == (4, 4)
    assert not ids[1, rows:].any()
    assert not values[:, rows:].any()
    assert not truths[:, 1:].any()
    assert [table.dtype for table in (ids, values, truths)] == [np.int32, np.float32, np.float32]


def test_truths_beyond_the_limit_are_cut():
    limited = assigner(max_truths=2)
    boxes = [(0.1, 0.1, 0.1, 0.1), (0.5, 0.5, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1)]
    for some, all_three in zip(
        assign(limited, boxes[:2], [0, 1]), assign(limited, boxes, [0, 1, 2]), strict=True
    ):
        np.testing.assert_array_equal(some, all_three)


def test_padding_names_each_prediction_equally_often():
    # 36 rows and 63 predictions; 630 rows and 63 predictions.
    few = assign(assigner(32, max_truths=4), [], [])[0][0]
    assert few.tolist() == [row * 63 // 36 for row in range(36)]
    assert len(np.unique(few)) == 36
    many = assign(assigner(32, max_truths=70), [], [])[0][0]
    assert np.bincount(many).tolist() == [10] * 63


def test_no_truths():
    ids, values, truths = assign(assigner(), [], [])
    assert not ids[1].any()
    assert not values.any()
    assert not truths.any()


def test_table_holds_truths_that_all_share_one_cell():
    boxes = [(0.5, 0.5, 0.1, 0.1)] * 10
    ids, values, _ = assign(assigner(32, max_truths=10, threshold=0.0), boxes, [0] * 10)
    assert (values[WEIGHT_BOX] > 0).sum() == ids.shape[1] == 90
    assert values[WEIGHT_OBJECT].sum() == 9


def test_class_outside_is_refused():
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        assign(assigner(), [(0.5, 0.5, 0.1, 0.1)], [3])


def test_pickles(rng):
    original = assigner()
    copy = pickle.loads(pickle.dumps(original))
    boxes = rng.uniform(0.1, 0.9, (5, 4))
    for table, again in zip(
        assign(original, boxes, [0] * 5), assign(copy, boxes, [0] * 5), strict=True
    ):
        np.testing.assert_array_equal(table, again)


def test_the_tables_give_their_targets_back():
    """Corners by hand ; two targets of one cell and class are both there."""
    boxes = [(0.3, 0.5, 0.2, 0.4), (0.7, 0.5, 0.1, 0.1), (0.305, 0.505, 0.25, 0.4)]
    tables = assign(assigner(img_size=608), boxes, [2, 0, 2])
    found, class_ids = matched_boxes(*tables[:2])
    expected = np.array(
        [[0.18, 0.305, 0.43, 0.705], [0.2, 0.3, 0.4, 0.7], [0.65, 0.45, 0.75, 0.55]]
    )
    order = np.argsort(found[:, 0])
    np.testing.assert_allclose(found[order] / 608, expected, atol=1e-6)
    assert class_ids[order].tolist() == [2, 2, 0]
    assert len(matched_boxes(*assign(assigner(), [], [])[:2])[0]) == 0

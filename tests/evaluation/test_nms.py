"""Candidate filter and suppression against published survivors, plain loops and hand-made maps."""

import numpy as np
import pytest

from mindyolo_v4.anchors import AnchorSet, decode_boxes, sigmoid
from mindyolo_v4.boxes import cxcywh_to_xyxy
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.evaluation import nms
from mindyolo_v4.evaluation.nms import detect_objects, non_max_suppression

CLASSES = 4
SIZE = 64


def plain_overlap(first, second, kind):
    """IoU, or IoU - (d^2/c^2)^0.6, of two corner boxes, written out."""
    width = max(0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    iou = width * height / (sum(areas) - width * height)
    if kind == "iou":
        return iou
    outer_width = max(first[2], second[2]) - min(first[0], second[0])
    outer_height = max(first[3], second[3]) - min(first[1], second[1])
    d2 = sum(((first[k] + first[k + 2] - second[k] - second[k + 2]) / 2) ** 2 for k in (0, 1))
    return iou - (d2 / (outer_width**2 + outer_height**2)) ** 0.6


def plain_greedy(boxes, scores, class_ids, settings):
    """Class by class, in descending score; then the best max_det of all."""
    kept = []
    for class_id in set(class_ids.tolist()):
        mine = []
        for index in sorted(np.flatnonzero(class_ids == class_id), key=lambda i: (-scores[i], i)):
            overlaps = (plain_overlap(boxes[other], boxes[index], settings.nms) for other in mine)
            if all(overlap <= settings.iou_thres for overlap in overlaps):
                mine.append(index)
        kept += mine
    return sorted(kept, key=lambda i: (-scores[i], i))[: settings.max_det]


@pytest.fixture
def anchors() -> AnchorSet:
    return ModelConfig().anchor_set


def random_maps(rng, anchors, size=SIZE, classes=CLASSES, shift=-1.0):
    return [
        rng.normal(
            shift,
            2.0,
            (len(level.anchor_ids) * (5 + classes), size // level.stride, size // level.stride),
        )
        for level in anchors.levels
    ]


def test_a_map_with_nan_is_reported_once(rng, anchors, caplog):
    nms._report_nan.cache_clear()
    maps = random_maps(rng, anchors)
    settings = EvaluateConfig()
    detect_objects(maps, anchors, settings)
    assert caplog.messages == []
    maps[1][:] = np.nan
    kept = detect_objects(maps, anchors, settings)
    detect_objects(maps, anchors, settings)
    (message,) = caplog.messages
    assert "not a number" in message
    assert np.isfinite(kept.boxes_xyxy_px).all()


def plain_candidates(maps, anchors, settings):
    """Return corners, score and class of every (cell, class) by loops.

    The order is level, anchor, class, row, column.
    """
    rows = []
    for raw_map, level in zip(maps, anchors.levels, strict=True):
        fields = raw_map.reshape(len(level.anchor_ids), -1, *raw_map.shape[1:])
        count, channels, height, width = fields.shape
        for a in range(count):
            for c in range(channels - 5):
                for j in range(height):
                    for i in range(width):
                        cell = fields[a, :, j, i]
                        objectness = sigmoid(cell[4:5])[0]
                        score = objectness * sigmoid(cell[5 + c : 6 + c])[0]
                        best = settings.multi_label or c == np.argmax(cell[5:])
                        if (
                            objectness > settings.conf_thres
                            and score > settings.conf_thres
                            and best
                        ):
                            wh = np.array([level.anchors_wh_px[a]])
                            box = decode_boxes(
                                cell[None, :4], np.array([i]), np.array([j]), wh, level
                            )
                            rows.append((*cxcywh_to_xyxy(box)[0], score, c))
    table = np.array(rows)
    return table[:, :4], table[:, 4], table[:, 5].astype(int)


@pytest.mark.parametrize(
    ("kind", "threshold", "survivors"),
    [("iou", 0.45, "ADE"), ("iou", 0.6, "ACDE"), ("diou", 0.45, "ACDE"), ("diou", 0.6, "ACDE")],
)
def test_darknet_survivors(kind, threshold, survivors):
    table = np.array(
        [
            (0.50, 0.50, 0.40, 0.40, 0.9),
            (0.52, 0.51, 0.40, 0.42, 0.8),
            (0.62, 0.50, 0.40, 0.40, 0.7),
            (0.50, 0.50, 0.20, 0.20, 0.6),
            (0.80, 0.80, 0.10, 0.10, 0.5),
            (0.51, 0.50, 0.38, 0.44, 0.85),
        ]
    )
    settings = EvaluateConfig(nms=kind, iou_thres=threshold)
    kept = non_max_suppression(
        cxcywh_to_xyxy(table[:, :4]), table[:, 4], np.zeros(6, int), settings
    )
    assert "".join("ABCDEF"[i] for i in kept) == survivors


@pytest.mark.parametrize("kind", ["iou", "diou"])
@pytest.mark.parametrize("max_det", [7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first_boxes", [32, 4096])
def test_equals_plain_greedy(rng, monkeypatch, kind, max_det, dtype, first_boxes):
    monkeypatch.setattr(nms, "_FIRST_BOXES", first_boxes)
    low = rng.integers(0, 40, (400, 2))
    boxes = np.concatenate([low, low + rng.integers(4, 30, (400, 2))], axis=1).astype(dtype)
    scores = np.round(rng.random(400), 2).astype(dtype)  # many equal scores
    class_ids = rng.integers(0, 3, 400) * 7
    settings = EvaluateConfig(nms=kind, iou_thres=0.5, max_det=max_det)
    kept = non_max_suppression(boxes, scores, class_ids, settings)
    assert kept.tolist() == plain_greedy(boxes.astype(float), scores, class_ids, settings)


def test_overlap_equal_to_the_threshold_stays():
    boxes = np.array([[0, 0, 3, 1], [1, 0, 4, 1]], np.float32)  # IoU 2/4
    scores, class_ids = np.array([0.9, 0.8], np.float32), np.zeros(2, int)
    assert len(non_max_suppression(boxes, scores, class_ids, EvaluateConfig(iou_thres=0.5))) == 2
    assert len(non_max_suppression(boxes, scores, class_ids, EvaluateConfig(iou_thres=0.4999))) == 1


def test_no_boxes_and_boxes_without_area():
    none = non_max_suppression(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), EvaluateConfig())
    assert none.shape == (0,)
    flat = np.array([[5.0, 5, 5, 5]] * 2)
    assert (
        len(non_max_suppression(flat, np.array([0.5, 0.6]), np.zeros(2, int), EvaluateConfig()))
        == 2
    )


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("threshold", [0.001, 0.25])
def test_detect_objects_equals_loops(rng, anchors, multi_label, threshold):
    settings = EvaluateConfig(conf_thres=threshold, multi_label=multi_label, max_det=40)
    maps = random_maps(rng, anchors)
    found = detect_objects(maps, anchors, settings)
    boxes, scores, class_ids = plain_candidates(maps, anchors, settings)
    expected = plain_greedy(boxes, scores.astype(np.float32), class_ids, settings)
    assert len(expected) > 5
    np.testing.assert_array_equal(found.class_ids, class_ids[expected])
    np.testing.assert_allclose(found.scores, scores[expected], rtol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy_px, boxes[expected], rtol=1e-6)


def test_decoded_pixels_and_types(anchors):
    maps = [np.full((27, 608 // s, 608 // s), -20.0, np.float32) for s in (8, 16, 32)]
    maps[0].reshape(3, 9, 76, 76)[1, :, 7, 10] = [
        0.2,
        -0.3,
        0.1,
        -0.2,
        3.0,
        -20.0,
        2.0,
        -20.0,
        -20.0,
    ]
    found = detect_objects(maps, anchors, EvaluateConfig())
    centre, size = np.array([84.4784, 59.2854]), np.array([20.9982, 29.4743])
    np.testing.assert_allclose(
        found.boxes_xyxy_px, [np.concatenate([centre - size / 2, centre + size / 2])], atol=1e-4
    )
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-3)) / (1 + np.exp(-2))], rtol=1e-6)
    assert found.class_ids.tolist() == [1]
    assert [found.boxes_xyxy_px.dtype, found.scores.dtype, found.class_ids.dtype] == [
        np.float32,
        np.float32,
        np.int64,
    ]


def test_max_candidates_keeps_the_best(rng, anchors):
    maps = random_maps(rng, anchors, shift=0.0)
    all_of_them = EvaluateConfig(conf_thres=0.01, iou_thres=1.0, max_det=100000)
    few = EvaluateConfig(conf_thres=0.01, iou_thres=1.0, max_det=100000, max_candidates=25)
    everything, best = (
        detect_objects(maps, anchors, all_of_them),
        detect_objects(maps, anchors, few),
    )
    assert len(everything) > 100
    np.testing.assert_array_equal(best.scores, everything.scores[:25])
    np.testing.assert_array_equal(best.boxes_xyxy_px, everything.boxes_xyxy_px[:25])


@pytest.mark.parametrize("kind", ["iou", "diou", "soft_linear", "soft_gaussian", "wbf"])
@pytest.mark.parametrize("limit", ["max_det", "max_candidates"])
def test_the_limits_count_the_chosen_classes_only(rng, anchors, kind, limit):
    maps = random_maps(rng, anchors)
    all_found = detect_objects(maps, anchors, EvaluateConfig(nms=kind, max_det=10**6))
    of_class = all_found.take(all_found.class_ids == 2)
    settings = EvaluateConfig(nms=kind, **{limit: 1})
    (score,) = detect_objects(maps, anchors, settings, {2}).scores
    if kind != "wbf" or limit == "max_det":  # a single candidate is not a mean of several
        assert score == of_class.scores[0]
    assert not len(detect_objects(maps, anchors, settings, {CLASSES}))


def test_max_candidates_with_equal_scores(anchors):
    maps = [
        np.zeros((27, SIZE // level.stride, SIZE // level.stride), np.float32)
        for level in anchors.levels
    ]
    settings = EvaluateConfig(max_candidates=10, iou_thres=1.0)
    found = detect_objects(maps, anchors, settings)
    assert len(found) == 10
    assert set(found.class_ids.tolist()) == {0}  # anchor 0, class 0, first row first
    np.testing.assert_allclose(found.boxes_xyxy_px[0], [4 - 6, 4 - 8, 4 + 6, 4 + 8])


@pytest.mark.parametrize("bad", [np.nan, -np.inf, -40.0])
def test_hopeless_maps_give_nothing(anchors, bad):
    maps = [
        np.full((27, SIZE // level.stride, SIZE // level.stride), bad, np.float32)
        for level in anchors.levels
    ]
    found = detect_objects(maps, anchors, EvaluateConfig())
    assert len(found) == 0
    assert found.boxes_xyxy_px.shape == (0, 4)


def test_non_finite_boxes_are_dropped(anchors):
    maps = [
        np.full((27, SIZE // level.stride, SIZE // level.stride), -9.0, np.float32)
        for level in anchors.levels
    ]
    maps[0][4:9, 0, 0], maps[0][4:9, 1, 1] = 5.0, 5.0
    maps[0][0, 0, 0] = np.nan
    assert len(detect_objects(maps, anchors, EvaluateConfig(conf_thres=0.5))) == 4


def test_threshold_zero_lets_everything_through(rng, anchors):
    maps = random_maps(rng, anchors)
    settings = EvaluateConfig(conf_thres=0.0, iou_thres=1.0, max_det=100000)
    assert len(detect_objects(maps, anchors, settings)) == CLASSES * 3 * (64 + 16 + 4)


def test_maps_must_fit_the_anchors(rng, anchors):
    maps = random_maps(rng, anchors)
    with pytest.raises(ValueError, match="2 maps for 3"):
        detect_objects(maps[:2], anchors, EvaluateConfig())
    with pytest.raises(ValueError, match="28 channels"):
        detect_objects([np.zeros((28, 2, 2)), *maps[1:]], anchors, EvaluateConfig())

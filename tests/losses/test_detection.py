"""The detector loss against darknet's deltas and a float64 oracle with finite differences."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.boxes import cxcywh_to_xyxy, pairwise_iou
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.losses import detection
from mindyolo_v4.losses.assign import WEIGHT_BOX
from mindyolo_v4.losses.detection import DetectionLoss
from mindyolo_v4.losses.matched import GatheredRows, GatheredValues
from tests.support.loss_case import SMALL_ANCHORS, TRUTHS, LossCase

DARKNET = LossConfig(ignore_class_threshold=0.25)


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    before = ms.get_context("mode")
    ms.set_context(mode=request.param)
    yield request.param
    ms.set_context(mode=before)


@pytest.fixture
def graph():
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=before)


@pytest.fixture(scope="module")
def darknet():
    """Share one compiled graph between the vectors."""
    return LossCase(DARKNET)


@pytest.fixture(scope="module")
def small():
    return LossCase(LossConfig(), size=32, anchors=SMALL_ANCHORS, max_truths=4)


def delta(gradients, level, anchor, row, column, image=0):
    """Return darknet's delta of objectness and classes (4,) of one prediction."""
    return -gradients[level][image, anchor * 8 + 4 : anchor * 8 + 8, row, column]


def objectness(gradient):
    return -gradient[:, 4::8]


T1 = ([(0.5, 0.5, 0.4, 0.5)], [1])
T3_BOXES = [(0.30, 0.62, 0.35, 0.30), (0.302, 0.618, 0.30, 0.33)]


def maps_of_t2(case):
    maps = case.empty_maps()
    maps[2][0, 8:16, 11, 5] = [0.4, -0.3, 0.1, -0.2, 1, -1, 0.5, 2]
    maps[2][0, 12, 11, 6], maps[2][0, 8, 11, 6], maps[2][0, 15, 11, 6] = 2, -2, 1
    return maps


def test_t1(mode, darknet):
    case = darknet if mode == ms.GRAPH_MODE else LossCase(DARKNET)
    gradients = case.run(case.empty_maps(), case.tables([T1]))[2]
    np.testing.assert_allclose(delta(gradients, 2, 1, 9, 9), [0.5, -0.5, 0.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(delta(gradients, 2, 2, 9, 9), [0.5, -0.5, 0.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(delta(gradients, 2, 0, 9, 9), [-0.5, 0, 0, 0], atol=1e-6)
    assert objectness(gradients[2]).sum() == pytest.approx(-539.5, abs=1e-3)
    assert (gradients[1] ** 2).sum() == pytest.approx(1083, rel=1e-5)
    assert (gradients[0] ** 2).sum() == pytest.approx(4332, rel=1e-5)


def test_t1_smoothing_and_best_anchor_only(pynative_mode):
    case = LossCase(LossConfig(label_smoothing=0.1, anchor_threshold=1.0))
    gradients = case.run(case.empty_maps(), case.tables([T1]))[2]
    np.testing.assert_allclose(delta(gradients, 2, 1, 9, 9), [0.5, -0.45, 0.45, -0.45], atol=1e-6)
    np.testing.assert_allclose(delta(gradients, 2, 2, 9, 9), [-0.5, 0, 0, 0], atol=1e-6)


def test_t2_mean_over_images(pynative_mode):
    case = LossCase(DARKNET)
    maps = [
        np.concatenate([a, b]) for a, b in zip(maps_of_t2(case), case.empty_maps(), strict=True)
    ]
    truths = (T3_BOXES[:1], [2])
    gradients = case.run(maps, case.tables([truths, truths]))[2]
    found = 2 * delta(gradients, 2, 1, 11, 5)
    np.testing.assert_allclose(found, [0.268941, -0.268941, -0.622459, 0.119203], atol=1e-6)
    np.testing.assert_allclose(2 * delta(gradients, 2, 0, 11, 5), [0.5, -0.5, -0.5, 0.5], atol=1e-6)
    assert 2 * delta(gradients, 2, 1, 11, 6)[0] == pytest.approx(-0.880797, abs=1e-6)
    np.testing.assert_allclose(
        2 * delta(gradients, 2, 1, 11, 5, image=1), [0.5, -0.5, -0.5, 0.5], atol=1e-6
    )


def test_t3_t4_shared_prediction_and_ignored_neighbour(graph, darknet):
    case = darknet
    different = case.run(case.empty_maps(), case.tables([(T3_BOXES, [2, 0])]))[2]
    same = case.run(case.empty_maps(), case.tables([(T3_BOXES, [2, 2])]))[2]
    for anchor in (0, 1):
        np.testing.assert_allclose(
            delta(different, 2, anchor, 11, 5), [0.5, 0.5, -0.5, 0.5], atol=1e-6
        )
        np.testing.assert_allclose(delta(same, 2, anchor, 11, 5), [0.5, -0.5, -0.5, 0.5], atol=1e-6)
        box = slice(anchor * 8, anchor * 8 + 4)
        averaged = different[2][0, box, 11, 5]
        np.testing.assert_allclose(same[2][0, box, 11, 5], 2 * averaged, rtol=1e-4)
    assert delta(different, 2, 1, 12, 5)[0] == 0


def test_t3_class_condition(graph, darknet):
    case = darknet
    maps = case.empty_maps()
    maps[2][0, 13:16, 12, 5] = -2  # every class below 0.25: no longer ignored
    gradients = case.run(maps, case.tables([(T3_BOXES, [2, 0])]))[2]
    assert delta(gradients, 2, 1, 12, 5)[0] == pytest.approx(-0.5, abs=1e-6)


def test_t3_without_class_condition(pynative_mode):
    case = LossCase(LossConfig())
    maps = case.empty_maps()
    maps[2][0, 13:16, 12, 5] = -2
    gradients = case.run(maps, case.tables([(T3_BOXES, [2, 0])]))[2]
    assert delta(gradients, 2, 1, 12, 5)[0] == 0


def test_t5(graph, darknet):
    case = darknet
    gradients = case.run(case.empty_maps(), case.tables([([(0.1, 0.1, 0.03, 0.05)], [0])]))[2]
    for anchor in range(3):
        np.testing.assert_allclose(
            delta(gradients, 0, anchor, 7, 7), [0.5, 0.5, -0.5, -0.5], atol=1e-6
        )
    assert (objectness(gradients[0]) > 0).sum() == 3
    assert (objectness(gradients[1]) > 0).sum() == (objectness(gradients[2]) > 0).sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "masks"),
    [
        *(("ciou", None), ("diou", None), ("giou", None), ("iou", None)),
        ("ciou", ((0, 1), (1, 2, 3, 5), (8,))),
    ],
)
def test_value_and_gradient_against_finite_differences(kind, masks, graph, rng, loss_oracle):
    config = LossConfig(
        box=kind,
        label_smoothing=0.1,
        box_gain=3.0,
        obj_gain=0.7,
        cls_gain=1.3,
        ignore_threshold=0.4,
    )
    case = LossCase(config, size=32, anchors=SMALL_ANCHORS, anchor_masks=masks)
    maps = case.random_maps(rng)
    oracle = loss_oracle(case.anchors, case.size, case.classes, config, TRUTHS, maps)
    assert oracle.ignored.any()
    total, parts, gradients = case.run(maps, case.tables(TRUTHS))
    np.testing.assert_allclose(parts, oracle.parts(maps), rtol=1e-5)
    assert total == pytest.approx(sum(oracle.parts(maps)), rel=1e-5)
    for found, expected in zip(gradients, oracle.finite_differences(maps), strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-5, rtol=1e-4)


COMBINED = {  # configurations of the loss, and decode of sizes
    "focal, weights, IoU as target": (
        {"focal_gamma": 2.0, "class_weights": (2.0, 0.5, 3.0), "objectness_target": "iou"},
        "exp",
    ),
    "squares, smooth, balance, square sizes": (
        {
            "box": "mse",
            "objectness_smooth": True,
            "obj_balance": (4.0, 1.0, 0.4),
            "class_weights": (2.0, 0.5, 3.0),
        },
        "square",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINED)
def test_options_against_finite_differences(name, loss_oracle):
    """Values and gradients of both forms, one compiled and one not."""
    options, decode = COMBINED[name]
    config = LossConfig(
        **options, label_smoothing=0.1, box_gain=3.0, obj_gain=0.7, ignore_threshold=0.4
    )
    before = ms.get_context("mode")
    for mode, for_cpu in ((ms.GRAPH_MODE, decode == "exp"), (ms.PYNATIVE_MODE, decode != "exp")):
        ms.set_context(mode=mode)
        case = LossCase(config, 32, anchors=SMALL_ANCHORS, for_cpu=for_cpu, box_decode=decode)
        maps = case.random_maps(np.random.default_rng(1))
        oracle = loss_oracle(case.anchors, case.size, case.classes, config, TRUTHS, maps)
        assert oracle.ignored.any()
        _, parts, gradients = case.run(maps, case.tables(TRUTHS))
        np.testing.assert_allclose(parts, oracle.parts(maps), rtol=1e-5)
        for found, expected in zip(gradients, oracle.finite_differences(maps), strict=True):
            np.testing.assert_allclose(found, expected, atol=3e-5, rtol=1e-4)
    ms.set_context(mode=before)


def test_squares_against_finite_differences(pynative_mode, rng, loss_oracle):
    config = LossConfig(box="mse", box_gain=0.75, ignore_threshold=0.4)
    case = LossCase(config, 32, anchors=SMALL_ANCHORS)
    maps = case.random_maps(rng)
    oracle = loss_oracle(case.anchors, case.size, case.classes, config, TRUTHS, maps)
    _, parts, gradients = case.run(maps, case.tables(TRUTHS))
    np.testing.assert_allclose(parts, oracle.parts(maps), rtol=1e-5)
    for found, expected in zip(gradients, oracle.finite_differences(maps), strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-5, rtol=1e-4)


def test_darknet_focal_loss_of_classes(pynative_mode):
    """T1 with class 1 at logit 0: half of g = log 2 / 2 + 1 / 4 scales all class deltas."""
    case = LossCase(LossConfig(gradient="darknet", focal_gamma=2.0))
    gradients = case.run(case.empty_maps(), case.tables([T1]))[2]
    half = (np.log(2) / 2 + 0.25) / 2
    expected = [0.5, -0.5 * half, 0.5 * half, -0.5 * half]
    np.testing.assert_allclose(delta(gradients, 2, 1, 9, 9), expected, atol=1e-6)


def test_darknet_focal_loss_of_a_shared_prediction(pynative_mode):
    """T3 with class 2 first, at logit 0, then class 0 at p = 0.9, which has no focal factor."""
    case = LossCase(LossConfig(gradient="darknet", focal_gamma=2.0))
    maps = case.empty_maps()
    class_0 = 1 * (5 + case.classes) + 5  # of anchor 1
    maps[2][0, class_0, 11, 5] = np.log(9)
    gradients = case.run(maps, case.tables([(T3_BOXES, [2, 0])]))[2]
    half = (np.log(2) / 2 + 0.25) / 2
    expected = [0.5, 0.1, -0.5 * half, 0.5 * half]
    np.testing.assert_allclose(delta(gradients, 2, 1, 11, 5), expected, atol=1e-6)


def test_darknet_smooth_objectness_has_no_matches(pynative_mode):
    """A match keeps its background delta; the neighbour of T3 is trained towards its IoU."""
    case = LossCase(LossConfig(gradient="darknet", objectness_smooth=True))
    gradients = case.run(case.empty_maps(), case.tables([(T3_BOXES, [2, 0])]))[2]
    assert delta(gradients, 2, 1, 11, 5)[0] == pytest.approx(best_iou_of_t3(11) - 0.5, abs=1e-5)
    assert delta(gradients, 2, 1, 12, 5)[0] == pytest.approx(best_iou_of_t3(12) - 0.5, abs=1e-5)
    assert delta(gradients, 2, 0, 11, 5)[0] == pytest.approx(-0.5, abs=1e-6)


def best_iou_of_t3(row):
    """Return the best IoU of anchor 1 (192 x 243) in column 5 of 19 with the targets of T3."""
    box = np.array([[5.5 / 19, (row + 0.5) / 19, 192 / 608, 243 / 608]])
    return pairwise_iou(cxcywh_to_xyxy(box), cxcywh_to_xyxy(np.array(T3_BOXES))).max()


def test_class_weights_of_a_shared_prediction(pynative_mode):
    """T3: objectness has the weight of the first target, classes have their own."""
    case = LossCase(LossConfig(class_weights=(2.0, 1.0, 3.0)))
    gradients = case.run(case.empty_maps(), case.tables([(T3_BOXES, [2, 0])]))[2]
    np.testing.assert_allclose(delta(gradients, 2, 1, 11, 5), [1.5, 1.0, -0.5, 1.5], atol=1e-6)


@pytest.mark.parametrize("key", ["class_weights", "obj_balance"])
def test_another_number_of_factors_is_refused(key):
    with pytest.raises(UserError, match=rf"loss.{key}: wrong count \(got 2, expected 3"):
        LossCase(LossConfig(**{key: (1.0, 2.0)}))


@pytest.mark.slow
def test_form_for_other_devices_is_equal(graph, rng):
    """Values and gradients, with the class condition and smoothing."""
    config = LossConfig(ignore_threshold=0.4, ignore_class_threshold=0.3, label_smoothing=0.1)
    results = []
    for for_cpu in (True, False):
        case = LossCase(config, size=32, anchors=SMALL_ANCHORS, for_cpu=for_cpu)
        results.append(case.run(case.random_maps(np.random.default_rng(1)), case.tables(TRUTHS)))
    cpu, other = results
    np.testing.assert_allclose([cpu[0], *cpu[1]], [other[0], *other[1]], rtol=1e-6)
    for one, another in zip(cpu[2], other[2], strict=True):
        assert abs(one).max() > 0.1
        np.testing.assert_allclose(one, another, rtol=1e-6, atol=1e-7)


def test_the_form_is_chosen_by_device(monkeypatch):
    def form():
        return type(DetectionLoss(ModelConfig().anchor_set, 3, 32, LossConfig()).matched)

    assert form() is GatheredValues
    monkeypatch.setattr(detection, "on_cpu", lambda: False)
    assert form() is GatheredRows


# What the tests of single options run operator by operator only: configurations, and models.
NEW_COORDINATES = {"box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)}
COMPILED = {
    "default": (LossConfig(ignore_class_threshold=0.5), {}),
    "darknet's steps and options": (
        LossConfig(
            gradient="darknet",
            max_delta=0.05,
            focal_gamma=2.0,
            objectness_smooth=True,
            class_weights=(2.0, 0.5, 3.0),
            label_smoothing=0.1,
            ignore_threshold=0.4,
        ),
        NEW_COORDINATES,
    ),
    "darknet's squares": (
        LossConfig(
            gradient="darknet",
            box="mse",
            obj_balance=(4.0, 1.0, 0.4),
            class_weights=(2.0, 0.5, 3.0),
            ignore_threshold=0.4,
        ),
        NEW_COORDINATES,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_pynative_equals_graph(name):
    config, model = COMPILED[name]
    results = []
    before = ms.get_context("mode")
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        ms.set_context(mode=mode)
        case = LossCase(config, size=32, anchors=SMALL_ANCHORS, **model)
        results.append(case.run(case.random_maps(np.random.default_rng(1)), case.tables(TRUTHS)))
    ms.set_context(mode=before)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-6)
    for graph_gradient, pynative_gradient in zip(results[0][2], results[1][2], strict=True):
        assert abs(pynative_gradient).max() > 0.01
        np.testing.assert_allclose(graph_gradient, pynative_gradient, atol=1e-6)


def test_parts_sum_exactly_and_padding_does_not_count(graph, rng, small):
    case = small
    maps, tables = case.random_maps(rng), case.tables(TRUTHS)
    total, parts, gradients = case.run(maps, tables)
    assert np.float32(parts[0]) + np.float32(parts[1]) + np.float32(parts[2]) == np.float32(total)
    padded = [table.copy() for table in tables]
    rows = padded[1][:, WEIGHT_BOX] == 0
    padded[0][:, 0][rows], padded[0][:, 1][rows] = 17, 2
    for plane in range(4):
        padded[1][:, plane][rows] = 5 + plane
    again = case.run(maps, padded)
    assert (again[0], again[1]) == (total, parts)
    for first, second in zip(gradients, again[2], strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_more_padding_changes_nothing(graph, rng, small):
    few, many = small, LossCase(LossConfig(), size=32, anchors=SMALL_ANCHORS, max_truths=9)
    maps = few.random_maps(rng)
    first, second = few.run(maps, few.tables(TRUTHS)), many.run(maps, many.tables(TRUTHS))
    np.testing.assert_allclose(first[1], second[1], rtol=1e-6)
    for one, other in zip(first[2], second[2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_order_of_truths_does_not_count(graph, rng, small):
    case = small
    maps = case.random_maps(rng)
    turned = [(boxes[::-1], classes[::-1]) for boxes, classes in TRUTHS]
    first, second = case.run(maps, case.tables(TRUTHS)), case.run(maps, case.tables(turned))
    np.testing.assert_allclose(first[1], second[1], rtol=1e-6)
    for one, other in zip(first[2], second[2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_finite_without_truths_and_with_huge_logits(graph, rng, small):
    case = small
    total, parts, gradients = case.run(case.empty_maps(3), case.tables([([], [])] * 3))
    assert parts == [0, pytest.approx(63 * np.log(2), rel=1e-6), 0]
    assert sum(abs(gradient).sum() for gradient in gradients) == pytest.approx(63 * 0.5, rel=1e-6)
    for size in (30.0, 1e4):
        huge = [
            (rng.choice([-size, size], level.shape)).astype(np.float32)
            for level in case.empty_maps(3)
        ]
        total, parts, gradients = case.run(huge, case.tables(TRUTHS))
        assert np.isfinite([total, *parts]).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.slow
def test_half_precision_maps_give_a_float32_loss(graph, rng, small):
    case = small
    maps = [level.astype(np.float16) for level in case.random_maps(rng)]
    expected = case.run([level.astype(np.float32) for level in maps], case.tables(TRUTHS))
    (total, _), gradients = case.gradients(
        *(Tensor(array) for array in (*maps, *case.tables(TRUTHS)))
    )
    assert total.dtype == ms.float32
    assert float(total) == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(gradients[1].asnumpy(), expected[2][1], atol=2e-3)


@pytest.mark.parametrize("for_cpu", [True, False])
def test_maps_of_another_size_are_refused(for_cpu, graph):
    case, other = LossCase(LossConfig(), size=32, for_cpu=for_cpu), LossCase(LossConfig(), size=64)
    with pytest.raises(ValueError, match="raw maps"):
        case.run(other.empty_maps(), case.tables([T1]))

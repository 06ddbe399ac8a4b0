"""Box deltas of the whole loss against those that darknet's yolo layer wrote."""

import mindspore as ms
import numpy as np
import pytest

from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.losses.assign import Assigner
from tests.support.loss_case import SMALL_ANCHORS, TRUTHS, LossCase

DARKNET = LossConfig(gradient="darknet", max_delta=5.0, ignore_class_threshold=0.25)
T1 = ([(0.5, 0.5, 0.4, 0.5)], [1])
T3_BOXES = [(0.30, 0.62, 0.35, 0.30), (0.302, 0.618, 0.30, 0.33)]
T5 = ([(0.1, 0.1, 0.03, 0.05)], [0])
CLOSE = {"rtol": 1e-5, "atol": 3e-6}


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


def deltas(case, truths, maps=None):
    """Return darknet's deltas of three levels, each (anchor, channel, H, W)."""
    maps = case.empty_maps() if maps is None else maps
    gradients = case.run(maps, case.tables([truths]))[2]
    return [-gradient[0].reshape(3, 8, *gradient.shape[2:]) for gradient in gradients]


def squared_sum(level):
    return (level.astype(np.float64) ** 2).sum()


@pytest.mark.slow
def test_t1(graph, darknet):
    large = deltas(darknet, T1)[2]
    classes = [0.5, -0.5, 0.5, -0.5]
    np.testing.assert_allclose(large[1, :, 9, 9], [0, 0, 0.279770, 0.221053, *classes], **CLOSE)
    np.testing.assert_allclose(large[2, :, 9, 9], [0, 0, -0.074630, -0.085104, *classes], **CLOSE)
    assert squared_sum(large) == pytest.approx(272.389948, abs=1e-4)


@pytest.mark.slow
def test_t1_best_anchor_only(graph, darknet, monkeypatch):
    best = Assigner(darknet.anchors, 608, 3, 4, anchor_threshold=1.0)
    monkeypatch.setattr(darknet, "assign", best)
    assert squared_sum(deltas(darknet, T1)[2]) == pytest.approx(271.627135, abs=1e-4)


@pytest.mark.slow
def test_t2(graph, darknet):
    maps = darknet.empty_maps()
    maps[2][0, 8:16, 11, 5] = [0.4, -0.3, 0.1, -0.2, 1, -1, 0.5, 2]
    maps[2][0, 12, 11, 6], maps[2][0, 8, 11, 6], maps[2][0, 15, 11, 6] = 2, -2, 1
    large = deltas(darknet, (T3_BOXES[:1], [2]), maps)[2]
    expected = [0.329951, 0.393128, -0.010031, 0.019309]
    np.testing.assert_allclose(large[1, :4, 11, 5], expected, **CLOSE)
    expected = [0.006935, 0.009709, 0.241227, 0.311405]
    np.testing.assert_allclose(large[0, :4, 11, 5], expected, **CLOSE)
    assert squared_sum(large) == pytest.approx(272.741324, abs=1e-4)


@pytest.mark.slow
def test_t3_t4_average_of_classes_and_sum_of_one_class(graph, darknet):
    expected = {
        0: [0.007876, 0.009337, 0.248519, 0.320865],
        1: [0.165467, 0.007053, 0.110841, -0.244322],
    }
    different = deltas(darknet, (T3_BOXES, [2, 0]))[2]
    same = deltas(darknet, (T3_BOXES, [2, 2]))[2]
    for anchor, values in expected.items():
        np.testing.assert_allclose(different[anchor, :4, 11, 5], values, **CLOSE)
        np.testing.assert_allclose(same[anchor, :4, 11, 5], 2 * np.array(values), **CLOSE)


@pytest.mark.slow
def test_t5(graph, darknet):
    small = deltas(darknet, T5)[0]
    expected = [
        [0.054179, 0.054179, 2.456140, 1.842106],
        [3.342059, 0.040700, -0.118331, -1.803238],
        [0.026978, 0.026978, -0.898179, 0.635824],
    ]
    np.testing.assert_allclose(small[:, :4, 7, 7], expected, **CLOSE)
    assert squared_sum(small) == pytest.approx(4359.330985, abs=2e-3)


def test_the_weight_of_a_class_comes_before_the_limit(pynative_mode):
    config = LossConfig(gradient="darknet", max_delta=0.5, class_weights=(1.0, 3.0, 1.0))
    large = deltas(LossCase(config), T1)[2]
    expected = [0, 0, 0.5, 0.5, 1.5, -0.5, 1.5, -0.5]
    np.testing.assert_allclose(large[1, :, 9, 9], expected, **CLOSE)
    expected = [0, 0, 3 * -0.074630, 3 * -0.085104]
    np.testing.assert_allclose(large[2, :4, 9, 9], expected, rtol=2e-5, atol=3e-6)


def test_label_smoothing_leaves_the_box_deltas(pynative_mode):
    """As darknet's for the classes; darknet would count the smoothed classes in the average."""
    config = LossConfig(gradient="darknet", label_smoothing=0.1)
    large = deltas(LossCase(config), T1)[2]
    expected = [0, 0, 0.279770, 0.221053, 0.5, -0.45, 0.45, -0.45]
    np.testing.assert_allclose(large[1, :, 9, 9], expected, **CLOSE)


def test_new_coordinates(pynative_mode):
    """Logits 0 give the boxes of T1; the logistic of the last convolution multiplies by 1 / 4."""
    model = {"box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)}
    large = deltas(LossCase(DARKNET, **model), T1)[2]
    expected = np.array([0, 0, 0.279770, 0.221053, 0.5, -0.5, 0.5, -0.5]) / 4
    np.testing.assert_allclose(large[1, :, 9, 9], expected, **CLOSE)
    assert large[0, 4].sum() == pytest.approx(-361 * 0.5 / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "x", "w"),
    [
        # 7.6 - 7.5 in x; ln(0.03 x 608 / 12) in w; the factor is 2 - 0.03 x 0.05.
        ({}, 0.1, 0.418710),
        # sqrt(0.38) - 0.5 in w; both times p (1 - p) = 1 / 4.
        ({"box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)}, 0.025, 0.116441 / 4),
    ],
    ids=["exp", "square"],
)
def test_squared_loss(model, x, w, pynative_mode):
    config = LossConfig(gradient="darknet", box="mse", iou_normalizer=0.75)
    small = deltas(LossCase(config, **model), T5)[0]
    factor = 0.75 * (2 - 0.0015)
    np.testing.assert_allclose(small[0, [0, 2], 7, 7], [factor * x, factor * w], rtol=2e-5)


def random_result(gradient, for_cpu):
    config = LossConfig(gradient=gradient, ignore_threshold=0.4)
    case = LossCase(config, 32, anchors=SMALL_ANCHORS, for_cpu=for_cpu)
    maps = case.random_maps(np.random.default_rng(1))
    return case.run(maps, case.tables(TRUTHS))


def test_both_gradients_report_the_same_loss_and_differ_in_boxes_alone(pynative_mode):
    autograd = random_result("autograd", for_cpu=True)
    darknet = random_result("darknet", for_cpu=True)
    assert autograd[:2] == darknet[:2]
    for levels in zip(autograd[2], darknet[2], strict=True):
        one, two = (level.reshape(3, 3, 8, -1) for level in levels)
        np.testing.assert_array_equal(one[:, :, 4:], two[:, :, 4:])
    assert abs(autograd[2][2] - darknet[2][2]).max() > 0.1


@pytest.mark.slow
def test_form_for_other_devices_is_equal():
    """The form for other devices, compiled, and the form for the CPU, which the vectors compile."""
    cpu = random_result("darknet", for_cpu=True)
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    other = random_result("darknet", for_cpu=False)
    ms.set_context(mode=before)
    np.testing.assert_allclose([cpu[0], *cpu[1]], [other[0], *other[1]], rtol=1e-6)
    for one, another in zip(cpu[2], other[2], strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-6)

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
T2 = (T3_BOXES[:1], [2])
T2_LOGITS = [0.4, -0.3, 0.1, -0.2, 1, -1, 0.5, 2]
T5 = ([(0.1, 0.1, 0.03, 0.05)], [0])
NEW_COORDINATES = {"box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)}
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


def maps_of_t2(case):
    """Return maps with the logits of T2 at stride 32, anchor 1, row 11, column 5; elsewhere 0."""
    maps = case.empty_maps()
    maps[2][0, 8:16, 11, 5] = T2_LOGITS
    return maps


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
    maps = maps_of_t2(darknet)
    maps[2][0, 12, 11, 6], maps[2][0, 8, 11, 6], maps[2][0, 15, 11, 6] = 2, -2, 1
    large = deltas(darknet, T2, maps)[2]
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


def darknet_gradient(box, truth):
    """Return D of CIoU in float64 for overlapping boxes, by finite differences.

    x, y: d IoU + [2 (t - p) c^2 - d^2 dc^2] / c^4; w, h: 2 d IoU + d^2 dc^2 / c^4 + the aspect's
    part, a (8 / pi^2) (atan_t - atan_p) (h, -w).
    """

    def iou_and_diagonal(x, y, w, h):
        low, high = np.array([[x - w / 2, y - h / 2], [x + w / 2, y + h / 2]])
        truth_low, truth_high = truth[:2] - truth[2:] / 2, truth[:2] + truth[2:] / 2
        overlap = np.prod(np.minimum(high, truth_high) - np.maximum(low, truth_low))
        hull = np.maximum(high, truth_high) - np.minimum(low, truth_low)
        return np.array([overlap / (w * h + truth[2:].prod() - overlap), (hull**2).sum()])

    steps = 1e-6 * np.eye(4)
    slopes = [iou_and_diagonal(*(box + d)) - iou_and_diagonal(*(box - d)) for d in steps]
    by_iou, by_diagonal = np.array(slopes).T / 2e-6
    iou, diagonal = iou_and_diagonal(*box)
    apart = truth[:2] - box[:2]
    angle = np.arctan(truth[2] / truth[3]) - np.arctan(box[2] / box[3])
    aspect = 4 / np.pi**2 * angle**2
    slope = aspect / (1 - iou + aspect + 1e-6) * 8 / np.pi**2 * angle
    centre = by_iou[:2] + (2 * apart * diagonal - (apart**2).sum() * by_diagonal[:2]) / diagonal**2
    size = 2 * by_iou[2:] + (apart**2).sum() * by_diagonal[2:] / diagonal**2
    return np.concatenate([centre, size + slope * np.array([box[3], -box[2]])])


def test_the_gradient_here_is_darknet_s():
    """For the last pair of test_darknet.py, no edges of which are equal."""
    box, truth = np.array([0.45, 0.52, 0.3, 0.1]), np.array([0.5, 0.5, 0.35, 0.15])
    expected = [3.422038, -0.245210, 0.949922, 9.545569]
    np.testing.assert_allclose(darknet_gradient(box, truth), expected, rtol=1e-5)


def test_new_coordinates(pynative_mode):
    """T2 in scaled YOLOv4: the box is no anchor; n D times p (1 - p) of the last convolution."""
    case = LossCase(DARKNET, **NEW_COORDINATES)
    large = deltas(case, T2, maps_of_t2(case))[2]
    p = 1 / (1 + np.exp(-np.array(T2_LOGITS)))
    box = [(5 + 2 * p[0] - 0.5) / 19, (11 + 2 * p[1] - 0.5) / 19]
    box += [4 * p[2] ** 2 * 192 / 608, 4 * p[3] ** 2 * 243 / 608]
    steps = 0.07 * darknet_gradient(np.array(box), np.array(T3_BOXES[0]))
    expected = p * (1 - p) * np.concatenate([steps, [1, 0, 0, 1] - p[4:]])
    np.testing.assert_allclose(large[1, :, 11, 5], expected, rtol=2e-5, atol=2e-6)
    box_steps = [1.98e-5, 0.0981276, 0.0774628, 0.0072213]  # by another hand
    np.testing.assert_allclose(expected[:4], box_steps, rtol=1e-5, atol=1e-7)

    # Anchor 0 has logits 0 there, thus its own size.
    box = [5.5 / 19, 11.5 / 19, 142 / 608, 110 / 608]
    steps = 0.07 / 4 * darknet_gradient(np.array(box), np.array(T3_BOXES[0]))
    np.testing.assert_allclose(large[0, :4, 11, 5], steps, **CLOSE)
    assert large[2, 4].sum() == pytest.approx(-361 * 0.5 / 4, rel=1e-5)  # not matched


def test_squared_loss(pynative_mode):
    """T5: 7.6 - 7.5 in x; ln(0.03 x 608 / 12) in w; the factor is 2 - 0.03 x 0.05."""
    small = deltas(LossCase(LossConfig(gradient="darknet", box="mse", iou_normalizer=0.75)), T5)[0]
    expected = 0.75 * (2 - 0.0015) * np.array([0.1, 0.418710])
    np.testing.assert_allclose(small[0, [0, 2], 7, 7], expected, rtol=2e-5)


def test_squared_loss_of_new_coordinates(pynative_mode):
    """T2: 0.3 x 19 - (5 + 2 p_x - 1/2) in x; sqrt(0.35 x 608 / (4 x 192)) - p_w in w.

    Both times 0.75 (2 - 0.35 x 0.30) and p (1 - p).
    """
    config = LossConfig(gradient="darknet", box="mse", iou_normalizer=0.75)
    case = LossCase(config, **NEW_COORDINATES)
    large = deltas(case, T2, maps_of_t2(case))[2]
    expected = [0.00089625, 0.14901026, 0.00049898, -0.00597157]
    np.testing.assert_allclose(large[1, :4, 11, 5], expected, rtol=2e-5, atol=1e-6)


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

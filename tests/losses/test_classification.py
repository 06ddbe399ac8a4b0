"""Smoothed, shared cross-entropy against numbers computed by hand and in float64."""

import mindspore as ms
import numpy as np
import pytest

from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.losses.classification import ClassificationLoss, losses_of_images

pytestmark = pytest.mark.usefixtures("any_mode")


def call(logits, ids, shares, smoothing=0.0):
    loss = ClassificationLoss(len(logits[0]), LossConfig(label_smoothing=smoothing))
    arguments = (
        ms.Tensor(logits, ms.float32),
        ms.Tensor(ids, ms.int32),
        ms.Tensor(shares, ms.float32),
    )
    total, (accuracy,) = loss(*arguments)
    return float(total.asnumpy()), float(accuracy.asnumpy()), loss, arguments


def reference(logits, ids, shares, smoothing):
    """-sum t log p in float64, with every target written down."""
    logits, classes = np.asarray(logits, np.float64), len(logits[0])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    total = 0.0
    for row, (own, parts) in enumerate(zip(ids, shares, strict=True)):
        target = np.zeros(classes)
        for class_id, share in zip(own, parts, strict=True):
            one = np.full(classes, smoothing / (classes - 1))
            one[class_id] = 1 - smoothing
            target += share * one
        total -= target @ log_p[row]
    return total / len(logits)


def test_two_equal_logits_cost_log_2():
    total, accuracy, *_ = call([[0.0, 0.0], [3.0, 3.0]], [[0], [1]], [[1.0], [1.0]])
    assert total == pytest.approx(np.log(2), rel=1e-5)
    assert accuracy == 50.0  # the first of equals is taken


def test_smoothing_as_darknet_has_it():
    """Logits (2, 0, 0): log p = (-0.23954, -2.23954, -2.23954); targets 0.9, 0.05, 0.05."""
    total, accuracy, *_ = call([[2.0, 0.0, 0.0]], [[0]], [[1.0]], smoothing=0.1)
    assert total == pytest.approx(0.9 * 0.2395448 + 0.1 * 2.2395448, rel=1e-5)
    assert accuracy == 100.0


def test_a_validation_has_the_loss_of_each_image():
    """Smoothed as above; the second image has a logit that is not finite."""
    logits = np.array([[2.0, 0.0, 0.0], [np.inf, 0.0, 0.0], [1.0, -2.0, 0.5]], np.float32)
    class_ids = np.array([0, 1, 2])
    losses = losses_of_images(logits, class_ids, LossConfig(label_smoothing=0.1))
    assert losses[0] == pytest.approx(0.9 * 0.2395448 + 0.1 * 2.2395448, rel=1e-6)
    assert np.isnan(losses[1])
    assert losses[2] == pytest.approx(reference(logits[2:], [[2]], [[1.0]], 0.1), rel=1e-6)


def test_a_thousand_classes_have_the_targets_of_the_cfg():
    # 0.1 / 999 = 1.001e-4 for a wrong class; the usual form 1 - e + e / C is the same with
    # e = 0.1 x 1000 / 999.
    loss = ClassificationLoss(1000, LossConfig(label_smoothing=0.1))
    assert loss.wrong_target == pytest.approx(1.001e-4, rel=1e-3)
    usual = 0.1 * 1000 / 999
    assert loss.true_weight + loss.wrong_target == pytest.approx(
        1 - usual + usual / 1000, rel=1e-12
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_between_classes(rng, smoothing):
    logits = rng.normal(size=(5, 7)) * 3
    ids = rng.integers(0, 7, (5, 4))
    ids[0] = 3  # all four the same class
    shares = rng.dirichlet(np.ones(4), 5)
    shares[1] = [1, 0, 0, 0]
    total, accuracy, *_ = call(logits, ids, shares, smoothing)
    assert total == pytest.approx(reference(logits, ids, shares, smoothing), rel=1e-5)
    main = ids[np.arange(5), shares.argmax(axis=1)]
    assert accuracy == pytest.approx(100 * (logits.argmax(axis=1) == main).mean())


def test_the_gradient_is_probability_minus_target(rng):
    """darknet's delta t - p with opposite sign, over the batch."""
    logits, ids, shares = (
        rng.normal(size=(3, 4)),
        [[1, 2], [0, 0], [3, 1]],
        [[0.75, 0.25], [1.0, 0.0], [0.4, 0.6]],
    )
    *_, loss, arguments = call(logits, ids, shares, smoothing=0.3)
    gradient, _ = ms.grad(loss, grad_position=0, has_aux=True)(*arguments)
    targets = np.full((3, 4), 0.1)  # 0.3 / 3
    for row, (own, parts) in enumerate(zip(ids, shares, strict=True)):
        for class_id, share in zip(own, parts, strict=True):
            targets[row, class_id] += share * 0.6  # 0.7 - 0.1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient.asnumpy(), (probabilities - targets) / 3, atol=2e-6)


def test_both_forms_are_equal(rng):
    logits = ms.Tensor(rng.normal(size=(5, 7)) * 3, ms.float32)
    ids = ms.Tensor(rng.integers(0, 7, (5, 2)), ms.int32)
    shares = ms.Tensor(rng.dirichlet(np.ones(2), 5), ms.float32)
    results = []
    for for_cpu in (True, False):
        loss = ClassificationLoss(7, LossConfig(label_smoothing=0.1), for_cpu)
        total, (accuracy,) = loss(logits, ids, shares)
        gradient, _ = ms.grad(loss, grad_position=0, has_aux=True)(logits, ids, shares)
        results.append((float(total), float(accuracy), gradient.asnumpy()))
    cpu, other = results
    assert cpu[:2] == pytest.approx(other[:2], rel=1e-6)
    np.testing.assert_allclose(cpu[2], other[2], rtol=1e-6, atol=1e-7)

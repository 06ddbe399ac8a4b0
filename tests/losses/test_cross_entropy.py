"""Cross-entropy and focal loss against numbers computed by hand and finite differences."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.losses.cross_entropy import cross_entropy

pytestmark = pytest.mark.usefixtures("pynative_mode")


@pytest.mark.parametrize(
    ("target", "gamma", "expected"),
    [
        (1.0, None, 0.693147),
        (0.0, 2.0, 0.173287),  # log 2 / 4
        (1.0, 1.0, 0.346574),
        (0.5, 2.0, 0.0),
        (0.75, None, 0.693147),
        (0.75, 2.0, 0.043322),  # log 2 / 16
    ],
)
def test_at_logit_0(target, gamma, expected):
    found = cross_entropy(Tensor(0.0), target, gamma)
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gamma", [None, 1.0, 1.5, 2.0])
def test_gradient_and_lin_s_formula(gamma, rng):
    logits = np.concatenate([rng.normal(0, 3, 20), [-60.0, 60.0]])
    targets = (rng.random(22) < 0.5).astype(np.float64)

    def lin(t):
        """(1 - p_t)^gamma (-log p_t), with 1 - p_t = sigma(u) and -log p_t = softplus(u)."""
        u = np.where(targets == 1, -t, t)
        return np.exp(-(gamma or 0.0) * np.logaddexp(0, -u)) * np.logaddexp(0, u)

    def total(t):
        return cross_entropy(t, Tensor(targets, ms.float32), gamma).sum()

    value, slopes = ms.value_and_grad(total)(Tensor(logits, ms.float32))
    assert float(value) == pytest.approx(lin(logits).sum(), rel=1e-5)
    expected = (lin(logits + 1e-5) - lin(logits - 1e-5)) / 2e-5
    np.testing.assert_allclose(slopes.asnumpy(), expected, atol=2e-5, rtol=1e-4)

"""Leaky ReLU in value and gradient."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.cpu_ops.activation import SumLeakyReLU


@pytest.mark.parametrize("slope", [0.1, 0.01])
def test_the_sum_is_leaky_relu(slope: float, rng: np.random.Generator, graph_mode: None) -> None:
    x = np.concatenate(
        [rng.normal(scale=3, size=1000), [0.0, -1e-30, 1e-30, -60000.0, 60000.0]]
    ).astype(np.float32)
    cell = SumLeakyReLU(slope)
    np.testing.assert_allclose(
        cell(Tensor(x)).asnumpy(), np.where(x > 0, x, np.float32(slope) * x), rtol=3e-7
    )
    gradient = ms.grad(cell)(Tensor(x)).asnumpy()
    np.testing.assert_allclose(gradient, np.where(x > 0, 1, slope), rtol=3e-7)

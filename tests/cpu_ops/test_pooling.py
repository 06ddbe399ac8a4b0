"""The max-pools of spatial pyramid pooling, in value and gradient, against windows cut by numpy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.cpu_ops import pooling
from mindyolo_v4.cpu_ops.pooling import POOL_SIZES, CascadedPools, DirectPools, pyramid_pools


class WeightedSum(nn.Cell):
    """Reduce the three pools to a scalar with fixed weights."""

    def __init__(self, pools: nn.Cell):
        super().__init__()
        self.pools = pools

    def construct(self, x: Tensor, weights: Tensor) -> Tensor:
        pooled13, pooled9, pooled5 = self.pools(x)
        return (pooled13 * weights[0] + pooled9 * weights[1] + pooled5 * weights[2]).sum()


def windows(x: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return all windows (B, C, H, W, size, size) of a map padded with minus infinity."""
    border = size // 2
    padded = np.pad(
        x, ((0, 0), (0, 0), (border, border), (border, border)), constant_values=-np.inf
    )
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))


def expected_gradient(x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Send each output's weight to the largest pixel of its window; values must differ."""
    gradient = np.zeros(x.shape, np.float64)
    for size, weight in zip(POOL_SIZES, weights, strict=True):
        for index, maximum in np.ndenumerate(windows(x, size).max(axis=(-1, -2))):
            batch, channel = index[:2]
            gradient[batch, channel][x[batch, channel] == maximum] += weight[index]
    return gradient


@pytest.mark.parametrize("pools", [CascadedPools, DirectPools])
@pytest.mark.parametrize("side", [7, 19])
def test_values_and_gradient(
    pools: type, side: int, rng: np.random.Generator, graph_mode: None
) -> None:
    # Negative everywhere: a border of zeros would win.
    x = -1.0 - rng.permutation(2 * 3 * side * side).reshape(2, 3, side, side).astype(np.float32)
    for pooled, size in zip(pools()(Tensor(x)), POOL_SIZES, strict=True):
        np.testing.assert_array_equal(pooled.asnumpy(), windows(x, size).max(axis=(-1, -2)))
    weights = rng.normal(size=(3, *x.shape)).astype(np.float32)
    gradient = ms.grad(WeightedSum(pools()))(Tensor(x), Tensor(weights)).asnumpy()
    np.testing.assert_allclose(gradient, expected_gradient(x, weights), rtol=0, atol=5e-5)


@pytest.mark.parametrize("pools", [CascadedPools, DirectPools])
def test_among_equal_values_the_gradient_is_neither_lost_nor_doubled(
    pools: type, graph_mode: None
) -> None:
    x = Tensor(np.full((1, 2, 6, 6), -3.0, np.float32))
    gradient = ms.grad(WeightedSum(pools()))(x, Tensor(np.ones((3, 1, 2, 6, 6), np.float32)))
    np.testing.assert_allclose(
        gradient.asnumpy().sum(axis=(2, 3)), [[108.0, 108.0]]
    )  # three pools of 36 outputs


def test_the_form_is_chosen_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(pyramid_pools()) is CascadedPools
    monkeypatch.setattr(pooling, "on_cpu", lambda: False)
    assert type(pyramid_pools()) is DirectPools

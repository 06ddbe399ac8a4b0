"""CBN against the paper's Taylor formula with explicit old kernels, in NumPy float64."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.parameters import run_state
from mindyolo_v4.models.iteration_norm import WINDOW, CrossIterationNorm

EPS = 1e-5


class Block(nn.Cell):
    """A convolution and its normalisation, reduced to a scalar with fixed weights."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, stride, pad_mode="pad", padding=kernel // 2
        )
        self.bn = CrossIterationNorm(self.conv, EPS, 0.9)

    def construct(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        y = self.bn(self.conv(x), x, self.conv.weight)
        return (y * weights).sum(), y


class Reference:
    """Equations 3 to 9: each pass keeps its kernel, its moments, and their slopes by the kernel."""

    def __init__(self, stride: int):
        self.stride = stride
        self.passes: list[tuple[NDArray, ...]] = []  # newest first

    def patches(self, x: NDArray, kernel: NDArray) -> NDArray:
        """Return (positions, D) of padded input."""
        border = kernel.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, kernel[0].size)

    def outputs(self, x: NDArray, kernel: NDArray, old_kernel: NDArray) -> NDArray:
        """Return (positions, C); compensation as of `old_kernel`, which is kept constant."""
        rows = self.patches(x, kernel) @ kernel.reshape(len(kernel), -1).T
        means, squares = [rows.mean(0)], [(rows**2).mean(0)]
        weights = old_kernel.reshape(len(kernel), -1)
        for w, mean, square, mean_slope, square_slope in self.passes[: WINDOW - 1]:
            means.append(mean + (mean_slope * (weights - w)).sum(1))
            square = square + (square_slope * (weights - w)).sum(1)
            squares.append(np.maximum(square, means[-1] ** 2))
        mean = np.mean(means, 0)
        variance = np.mean([squares[0], *squares[1:]], 0) - mean**2
        return (rows - mean) / np.sqrt(variance + EPS)

    def remember(self, x: NDArray, kernel: NDArray) -> None:
        patches = self.patches(x, kernel)
        weights = kernel.reshape(len(kernel), -1)
        rows = patches @ weights.T
        mean_slope = np.broadcast_to(patches.mean(0), weights.shape)
        square_slope = 2 * rows.T @ patches / len(rows)
        moments = (rows.mean(0), (rows**2).mean(0))
        self.passes.insert(0, (weights, *moments, mean_slope, square_slope))


def rows_of(y: NDArray) -> NDArray:
    return y.transpose(0, 2, 3, 1).reshape(-1, y.shape[1])


def test_compensation_by_hand(pynative_mode: None) -> None:
    """x = 1, 2, 3, 4 and w = 1: u = 2.5, q = 7.5, dq/dw = 15. With w = 1.1: 2.75 and 9."""
    block = Block(1, 1, 1, 1).set_train()
    x = Tensor(np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2))
    block.conv.weight.set_data(Tensor(np.ones((1, 1, 1, 1), np.float32)))
    block(x, x)
    means, squares, filled = block.bn.earlier(Tensor([[1.1]], ms.float32))
    assert means.asnumpy()[0, 0] == pytest.approx(2.75, rel=1e-6)
    assert squares.asnumpy()[0, 0] == pytest.approx(9.0, rel=1e-6)
    np.testing.assert_array_equal(filled.asnumpy().ravel(), [1, 0, 0])


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2)])
def test_passes_with_changing_kernels(
    kernel: int, stride: int, rng: np.random.Generator, graph_mode: None
) -> None:
    """Six passes: the window of four fills, then slides; gradients of the last one."""
    block = Block(2, 3, kernel, stride).set_train()
    gradient = ms.value_and_grad(block, 0, [block.conv.weight], has_aux=True)
    reference = Reference(stride)
    weight = rng.normal(size=(3, 2, kernel, kernel))
    side = 6 // stride
    weights = rng.normal(size=(2, 3, side, side))
    for _ in range(6):
        weight = weight + 0.05 * rng.normal(size=weight.shape)
        ops.assign(block.conv.weight, Tensor(weight, ms.float32))
        x = rng.normal(0.5, 1.0, (2, 2, 6, 6))
        (_, y), (of_x, (of_weight,)) = gradient(Tensor(x, ms.float32), Tensor(weights, ms.float32))
        expected = reference.outputs(x, weight, weight)
        np.testing.assert_allclose(rows_of(y.asnumpy()), expected, rtol=1e-4, atol=1e-4)
        reference.remember(x, weight)

    reference.passes.pop(0)  # the last pass again
    arrays = [x, weight]
    for place, found in enumerate((of_x, of_weight)):
        for flat in rng.choice(arrays[place].size, 6, replace=False):
            index = np.unravel_index(flat, arrays[place].shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in arrays]
                moved[place][index] += step
                ends.append((reference.outputs(*moved, weight) * rows_of(weights)).sum())
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(found.asnumpy()[index]) == pytest.approx(slope, rel=2e-3, abs=2e-3)

    state = {name: value.asnumpy().copy() for name, value in run_state(block).items()}
    block(Tensor(x * np.nan, ms.float32), Tensor(weights, ms.float32))
    for name, value in run_state(block).items():
        np.testing.assert_array_equal(value.asnumpy(), state[name], err_msg=name)

"""Weighted residual sums against hand-computed shares and darknet's loop in NumPy float64."""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import Residual, conv_style
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import parameter_count
from mindyolo_v4.models.topology import layers_of, parameter_shapes
from mindyolo_v4.models.weighted_sum import WeightedSum


class WeightedLoss(nn.Cell):
    """Reduce a sum to a scalar with fixed weights."""

    def __init__(self, cell: nn.Cell):
        super().__init__()
        self.cell = cell

    def construct(self, branch: Tensor, x: Tensor, loss_weights: Tensor) -> Tensor:
        return (self.cell(branch, x) * loss_weights).sum()


def weighted_sum(weights: list[float], per_channel: bool) -> WeightedSum:
    cell = WeightedSum(len(weights) // 2, per_channel)
    cell.weights.set_data(Tensor(np.array(weights, np.float32)))
    return cell


def darknet_shortcut(
    branch: NDArray, x: NDArray, weights: NDArray, per_channel: bool
) -> NDArray[np.float64]:
    """Loop over channels as blas_kernels.cu does: weights_index = channel + i * layer_step."""
    layer_step = len(weights) // 2
    out = np.zeros(branch.shape)
    for channel in range(branch.shape[1]):
        w = [weights[(channel if per_channel else 0) + i * layer_step] for i in (0, 1)]
        if per_channel:
            w = [math.exp(value - max(w)) for value in w]
        else:
            w = [value if value > 0.001 else 0.001 for value in w]
        total = 0.0001 + sum(w)
        out[:, channel] = branch[:, channel] * w[0] / total + x[:, channel] * w[1] / total
    return out


@pytest.mark.parametrize(
    ("weights", "per_channel", "expected"),
    [
        # Both 1: one half each, but for the epsilon.
        ([1.0, 1.0], False, 10 / 2.0001 + 2 / 2.0001),
        ([1.0, 3.0], False, 10 * 1 / 4.0001 + 2 * 3 / 4.0001),
        ([-5.0, 1.0], False, 10 * 0.001 / 1.0011 + 2 * 1 / 1.0011),  # max(w, 0.001)
        # exp(0 - ln 3) = 1/3 and exp(0) = 1.
        ([0.0, math.log(3)], True, 10 * (1 / 3) / (4 / 3 + 1e-4) + 2 / (4 / 3 + 1e-4)),
    ],
)
def test_shares_by_hand(
    weights: list[float], per_channel: bool, expected: float, pynative_mode: None
) -> None:
    cell = weighted_sum(weights, per_channel)
    branch, x = (Tensor(np.full((1, 1, 1, 1), value, np.float32)) for value in (10.0, 2.0))
    assert cell(branch, x).asnumpy().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("per_channel", [False, True])
def test_values_and_gradients_of_darknets_formula(
    per_channel: bool, rng: np.random.Generator, graph_mode: None
) -> None:
    weights = rng.normal(1.0, 0.5, 6 if per_channel else 2)
    branch, x, loss_weights = rng.normal(size=(3, 2, 3, 4, 4))
    cell = weighted_sum(list(weights), per_channel)
    loss_grad = ms.value_and_grad(WeightedLoss(cell), (0, 1), [cell.weights])
    arguments = (Tensor(value, ms.float32) for value in (branch, x, loss_weights))
    value, (of_inputs, of_weights) = loss_grad(*arguments)

    def loss(arrays: list[NDArray]) -> float:
        return float((darknet_shortcut(*arrays, per_channel) * loss_weights).sum())

    arrays = [branch, x, weights]
    assert float(value) == pytest.approx(loss(arrays), rel=1e-5, abs=1e-5)
    for place, gradient in enumerate((*of_inputs, *of_weights)):
        for flat in rng.choice(arrays[place].size, min(arrays[place].size, 6), replace=False):
            index = np.unravel_index(flat, arrays[place].shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in arrays]
                moved[place][index] += step
                ends.append(loss(moved))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(gradient.asnumpy()[index]) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_a_residual_block_ends_in_it(pynative_mode: None) -> None:
    style = conv_style(ModelConfig(residual="weighted", cpu_fused="off"), "mish")
    block = Residual(2, 4, style).set_train(False)
    block.conv2.bn.gamma.set_data(Tensor(np.zeros(2, np.float32)))
    block.conv2.bn.beta.set_data(Tensor(np.full(2, 1.0, np.float32)))
    block.sum.weights.set_data(Tensor(np.array([1.0, 3.0], np.float32)))
    x = np.array([-3.0, 0.5], np.float32).reshape(1, 2, 1, 1)
    expected = (0.865098388 + 3 * x) / 4.0001  # Mish(1) is the branch
    np.testing.assert_allclose(block(Tensor(x)).asnumpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("residual", "more"),
    # 23 residual blocks in stages of 64, 64, 128, 256, 512 channels: 1, 2, 8, 8 and 4 blocks.
    [("weighted", 2 * 23), ("weighted_channel", 2 * (64 + 2 * 64 + 8 * 128 + 8 * 256 + 4 * 512))],
)
def test_count_of_parameters(residual: str, more: int) -> None:
    layers = layers_of(ModelConfig(residual=residual), 80)
    assert sum(layer.floats for layer in layers) == 64_429_405 + more


@pytest.mark.parametrize("residual", ["weighted", "weighted_channel"])
def test_names_and_shapes_are_those_of_the_topology(residual: str) -> None:
    model = ModelConfig("cspdarknet53", width=0.125, depth=0.1, residual=residual)
    network = build_network(model, 3)
    shapes = {name: tuple(value.shape) for name, value in network.parameters_dict().items()}
    assert shapes == parameter_shapes(model, 3)
    channels = 8 if residual == "weighted_channel" else 1
    assert shapes["backbone.stage1.blocks.0.sum.weights"] == (2 * channels,)
    weights = network.parameters_dict()["backbone.stage1.blocks.0.sum.weights"]
    assert weights.requires_grad and np.all(weights.asnumpy() == 1)
    trained = [shape for name, shape in shapes.items() if ".moving_" not in name]
    assert parameter_count(network) == sum(map(math.prod, trained))

"""Building blocks against hand-computed values and a float64 reference in numpy."""

from collections.abc import Callable

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import (
    ConvNormAct,
    ConvStyle,
    Residual,
    build_activation,
    choose_fused,
    conv_style,
    scale_blocks,
    scale_channels,
    squeeze_expand,
)
from tests.support.weighted import WeightedOutput

STYLE = ConvStyle(ModelConfig(), "mish")
MISH = {  # x: Mish(x), Mish'(x); float64
    -20.0: (-4.1e-8, -3.9e-8),
    -5.0: (-0.033576238, -0.026747498),
    -3.0: (-0.145647461, -0.093393115),
    -2.0: (-0.252501483, -0.108355092),
    -1.2: (-0.308835796, -0.002008761),
    -1.0: (-0.303401461, 0.059216756),
    -0.5: (-0.220743775, 0.289510678),
    0.0: (0.0, 0.6),
    0.5: (0.375245211, 0.886424375),
    1.0: (0.865098388, 1.049036220),
    2.0: (1.943958960, 1.069317934),
    5.0: (4.999552078, 1.000800225),
    20.0: (20.0, 1.0),
}


def test_mish_values_and_gradient(graph_mode: None) -> None:
    x = Tensor(np.array(list(MISH), np.float32))
    values, slopes = np.array(list(MISH.values())).T
    mish = build_activation(STYLE)
    np.testing.assert_allclose(mish(x).asnumpy(), values, rtol=0, atol=1e-6)
    gradient = ms.grad(WeightedOutput(mish))(x, Tensor(np.ones(len(MISH), np.float32)))
    np.testing.assert_allclose(gradient.asnumpy(), slopes, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "at_minus_two", "at_two"),
    [("leaky", -0.25, 2.0), ("leaky001", -0.02, 2.0), ("silu", -0.238405844, 1.761594156)],
)
def test_other_activations(name: str, at_minus_two: float, at_two: float, graph_mode: None) -> None:
    style = conv_style(ModelConfig(cpu_fused="off", leaky_slope=0.125), name)
    result = build_activation(style)(Tensor(np.array([-2.0, 2.0], np.float32)))
    np.testing.assert_allclose(result.asnumpy(), [at_minus_two, at_two], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "width", "scaled"),
    [(32, 0.25, 8), (64, 1.0, 64), (64, 0.3, 24), (128, 0.5, 64), (80, 0.7, 56)],
)
def test_channels_are_rounded_up_to_a_multiple_of_eight(
    channels: int, width: float, scaled: int
) -> None:
    assert scale_channels(channels, width) == scaled


@pytest.mark.parametrize(
    ("blocks", "depth", "scaled"),
    [(8, 0.34, 3), (1, 0.34, 1), (4, 1.0, 4), (2, 0.1, 1), (8, 2, 16)],
)
def test_blocks_are_rounded_and_at_least_one(blocks: int, depth: float, scaled: int) -> None:
    assert scale_blocks(blocks, depth) == scaled


@pytest.mark.parametrize(("padding", "first"), [("symmetric", 0), ("same", 1)])
def test_stride_two_padding_moves_the_kernel_centre(
    padding: str, first: int, pynative_mode: None
) -> None:
    # A kernel that is one at its centre picks the pixels it is centred on.
    style = ConvStyle(ModelConfig(stride2_padding=padding), "silu")
    conv = ConvNormAct(1, 1, 3, style, stride=2).conv
    conv.weight.set_data(Tensor(np.eye(9, dtype=np.float32)[4].reshape(1, 1, 3, 3)))
    picture = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    np.testing.assert_allclose(conv(Tensor(picture)).asnumpy(), picture[:, :, first::2, first::2])


@pytest.mark.parametrize(("eps", "expected"), [(1e-3, 2.933968), (1e-5, 2.961881)])
def test_eps_is_added_to_the_variance(eps: float, expected: float, graph_mode: None) -> None:
    block = ConvNormAct(1, 1, 1, ConvStyle(ModelConfig(bn_eps=eps), "leaky")).set_train(False)
    for parameter, value in (
        (block.conv.weight, 1.0),
        (block.bn.gamma, 0.8),
        (block.bn.beta, 0.1),
        (block.bn.moving_mean, 0.2),
        (block.bn.moving_variance, 0.05),
    ):
        parameter.set_data(Tensor(np.full(parameter.shape, value, np.float32)))
    assert float(block(Tensor(np.ones((1, 1, 1, 1), np.float32)))) == pytest.approx(
        expected, abs=1e-5
    )


def test_momentum_is_the_weight_of_the_old_statistic(graph_mode: None) -> None:
    block = ConvNormAct(1, 1, 1, ConvStyle(ModelConfig(bn_momentum=0.9), "leaky")).set_train()
    block.conv.weight.set_data(Tensor(np.ones((1, 1, 1, 1), np.float32)))
    block(Tensor(np.array([1.0, 3.0], np.float32).reshape(1, 1, 1, 2)))
    # Batch mean 2, unbiased variance 2; the running ones began at 0 and 1.
    assert float(block.bn.moving_mean[0]) == pytest.approx(0.9 * 0 + 0.1 * 2, abs=1e-6)
    assert float(block.bn.moving_variance[0]) == pytest.approx(0.9 * 1 + 0.1 * 2, abs=1e-6)


def test_residual_adds_without_activation(pynative_mode: None) -> None:
    block = Residual(2, 4, STYLE).set_train(False)
    block.conv2.bn.gamma.set_data(Tensor(np.zeros(2, np.float32)))
    block.conv2.bn.beta.set_data(Tensor(np.full(2, 1.0, np.float32)))
    x = np.array([-3.0, 0.5], np.float32).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(block(Tensor(x)).asnumpy(), x + 0.865098388, rtol=0, atol=1e-6)


def test_squeeze_expand_alternates() -> None:
    shapes = [block.conv.weight.shape for block in squeeze_expand(16, 8, 24, 5, STYLE)]
    assert shapes == [(8, 16, 1, 1), (24, 8, 3, 3), (8, 24, 1, 1), (24, 8, 3, 3), (8, 24, 1, 1)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", ["mish", "leaky", "silu"])
@pytest.mark.parametrize("fused", ["off", "auto"])
def test_training_gradient_matches_finite_differences(
    activation: str, fused: str, stride: int, rng: np.random.Generator, graph_mode: None
) -> None:
    library, _ = choose_fused(fused)
    style = ConvStyle(ModelConfig(), activation, library)
    block = ConvNormAct(2, 3, 3, style, stride).set_train()
    parameters = [block.conv.weight, block.bn.gamma, block.bn.beta]
    values = [rng.normal(size=p.shape) for p in parameters]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.set_data(Tensor(value, ms.float32))
    values.append(rng.normal(size=(2, 2, 6, 6)))
    weights = rng.normal(size=(2, 3, 6 // stride, 6 // stride))

    def loss(arrays: list[NDArray[np.float64]]) -> float:
        return float((reference_block(*arrays, activation, stride) * weights).sum())

    gradient = ms.value_and_grad(WeightedOutput(block), 0, ms.ParameterTuple(parameters))
    value, (of_x, of_parameters) = gradient(
        Tensor(values[-1], ms.float32), Tensor(weights, ms.float32)
    )
    assert float(value) == pytest.approx(loss(values), abs=1e-3)
    for place, analytic in enumerate((*of_parameters, of_x)):
        numeric = central_differences(loss, values, place, rng)
        for index, expected in numeric.items():
            # Stock Mish has a gradient error of up to 9e-4 an element.
            rel, tolerance = (1e-4, 1e-4) if library else (2e-3, 1e-2)
            assert float(analytic[index]) == pytest.approx(expected, rel=rel, abs=tolerance), (
                place,
                index,
            )


def reference_block(
    kernel: NDArray, gamma: NDArray, beta: NDArray, x: NDArray, activation: str, stride: int
) -> NDArray[np.float64]:
    """Compute a training-mode block in float64, padding 1."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[
        :, :, ::stride, ::stride
    ]
    y = np.einsum("bchwij,ocij->bohw", windows, kernel)
    mean, variance = y.mean(axis=(0, 2, 3), keepdims=True), y.var(axis=(0, 2, 3), keepdims=True)
    y = (y - mean) / np.sqrt(variance + 1e-5) * gamma[:, None, None] + beta[:, None, None]
    if activation == "leaky":
        return np.where(y > 0, y, 0.1 * y)
    if activation == "silu":
        return y / (1 + np.exp(-y))
    return y * np.tanh(np.log1p(np.exp(y)))


def central_differences(
    loss: Callable[[list[NDArray]], float],
    values: list[NDArray[np.float64]],
    place: int,
    rng: np.random.Generator,
    step: float = 1e-6,
) -> dict[tuple[int, ...], float]:
    """Return the slope of `loss` along five random elements of `values[place]`."""
    slopes = {}
    for flat in rng.choice(values[place].size, size=min(5, values[place].size), replace=False):
        index = np.unravel_index(flat, values[place].shape)
        ends = []
        for sign in (1, -1):
            moved = [value.copy() for value in values]
            moved[place][index] += sign * step
            ends.append(loss(moved))
        slopes[tuple(int(i) for i in index)] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def test_parameter_names_are_those_that_converters_rely_on() -> None:
    block = ConvNormAct(1, 1, 1, STYLE)
    names = {"conv.weight", "bn.gamma", "bn.beta", "bn.moving_mean", "bn.moving_variance"}
    assert set(block.parameters_dict()) == names
    assert all(isinstance(p, Parameter) for p in block.get_parameters())

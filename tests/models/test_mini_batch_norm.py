"""CmBN against the vectors of its darknet form, one batch normalisation of the whole batch, and
float64 finite differences.
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.parameters import batch_norms, named_parameters, run_state, step_state
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.cpu_ops.norm_act import fused_library
from mindyolo_v4.engine.optimizer import freeze
from mindyolo_v4.models.blocks import ConvNormAct, conv_style
from mindyolo_v4.models.mini_batch_norm import CrossMiniBatchNorm
from tests.support.rig import RATE, Rig
from tests.support.tiny import TinyForward, TinyNet, tiny_batch
from tests.support.weighted import WeightedOutput

EPS = 1e-5
MICRO_BATCHES = np.array([[1, 2, 3, 4], [2, 4, 6, 8], [0, 0, 1, 1], [-1, 1, -1, 5]], np.float64)


def make_norm(channels: int, momentum: float, form: str, eps: float = EPS) -> CrossMiniBatchNorm:
    """Return the norm of stock operators, or the fused one with an activation that does nothing."""
    if form == "stock":
        return CrossMiniBatchNorm(channels, eps, momentum)
    identity = ("leaky", 1.0, nn.Identity(), fused_library())
    return CrossMiniBatchNorm(channels, eps, momentum, *identity)


FORMS = pytest.mark.parametrize("form", ["stock", "fused"])


def as_map(values: NDArray) -> Tensor:
    return Tensor(values.reshape(1, 1, 1, -1), ms.float32)


def norm_net(norm: nn.BatchNorm2d) -> TinyNet:
    """Return the tiny network with another normalisation of its 4 channels."""
    network = TinyNet()
    norm.gamma.set_data(network.bn.gamma.value())
    norm.beta.set_data(network.bn.beta.value())
    network.bn = norm
    return network


def test_statistics_of_the_step_so_far(any_mode: None) -> None:
    """Means 2.5, 3.75, 2.666667, 2.25; population variances 1.25, 4.6875, 5.555556, 6.1875."""
    norm = CrossMiniBatchNorm(1, EPS, momentum=0.99).set_train()
    norm.moving_variance.set_data(Tensor(np.zeros(1, np.float32)))
    means = (2.5, 3.75, 8 / 3, 2.25)
    variances = (1.25, 4.6875, 50 / 9, 6.1875)
    running_variance = 0.0
    for count, x in enumerate(MICRO_BATCHES, start=1):
        y = norm(as_map(x)).asnumpy().ravel()
        mean, variance = means[count - 1], variances[count - 1]
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + EPS), rtol=1e-5, atol=1e-6)
        # Means that darknet's form has too; the unbiased variance of 4, 8, 12 and 16 values.
        running_mean = (0.025, 0.06225, 0.08829417, 0.10991123)[count - 1]
        assert norm.moving_mean.asnumpy().item() == pytest.approx(running_mean, rel=1e-5)
        values = 4 * count
        running_variance = 0.99 * running_variance + 0.01 * variance * values / (values - 1)
        assert norm.moving_variance.asnumpy().item() == pytest.approx(running_variance, rel=1e-5)
    np.testing.assert_allclose(norm.step_statistics.asnumpy().ravel(), [2.25, 6.1875, 4], rtol=1e-6)


@FORMS
def test_the_last_micro_batch_is_normalised_as_in_the_whole_batch(
    rng: np.random.Generator, graph_mode: None, form: str
) -> None:
    x = rng.normal(3.0, 2.0, (6, 3, 4, 4)).astype(np.float32)
    # With momentum 0, a running statistic is that of the last batch.
    whole = nn.BatchNorm2d(3, eps=EPS, momentum=0.0).set_train()
    parts = make_norm(3, 0.0, form).set_train()
    expected = whole(Tensor(x)).asnumpy()
    for start in (0, 2, 4):
        y = parts(Tensor(x[start : start + 2])).asnumpy()
    np.testing.assert_allclose(y, expected[4:], rtol=1e-5, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        found, statistic = (getattr(norm, name).asnumpy() for norm in (parts, whole))
        np.testing.assert_allclose(found, statistic, rtol=1e-5)


@FORMS
def test_gradient_of_the_second_micro_batch(
    rng: np.random.Generator, graph_mode: None, form: str
) -> None:
    first, second, weights = rng.normal(1.0, 2.0, (3, 2, 3, 3, 3))
    gamma, beta = rng.uniform(0.5, 1.5, (2, 3))
    norm = make_norm(3, 0.9, form).set_train()
    norm.gamma.set_data(Tensor(gamma, ms.float32))
    norm.beta.set_data(Tensor(beta, ms.float32))
    gradient = ms.value_and_grad(WeightedOutput(norm).set_train(), 0, [norm.gamma, norm.beta])
    gradient(Tensor(first, ms.float32), Tensor(weights, ms.float32))
    value, (of_x, (of_gamma, of_beta)) = gradient(
        Tensor(second, ms.float32), Tensor(weights, ms.float32)
    )

    def loss(x: NDArray, scale: NDArray, shift: NDArray) -> float:
        both = np.stack((first, x))
        mean = both.mean((0, 1, 3, 4)).reshape(1, 3, 1, 1)
        variance = both.var((0, 1, 3, 4)).reshape(1, 3, 1, 1)
        y = scale.reshape(1, 3, 1, 1) * (x - mean) / np.sqrt(variance + EPS)
        return float(((y + shift.reshape(1, 3, 1, 1)) * weights).sum())

    arrays = [second, gamma, beta]
    assert float(value) == pytest.approx(loss(*arrays), rel=1e-5, abs=1e-4)
    for place, found in enumerate((of_x, of_gamma, of_beta)):
        for flat in rng.choice(arrays[place].size, min(arrays[place].size, 8), replace=False):
            index = np.unravel_index(flat, arrays[place].shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in arrays]
                moved[place][index] += step
                ends.append(loss(*moved))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(found.asnumpy()[index]) == pytest.approx(slope, rel=1e-3, abs=1e-4)


@FORMS
def test_one_micro_batch_per_step_is_batch_normalisation(graph_mode: None, form: str) -> None:
    """Weights, averages and running statistics after 3 steps; the state is cleared each time."""
    plain = Rig(norm_net(nn.BatchNorm2d(4, EPS, 0.9)), TinyForward, ema=0.9)
    rig = Rig(norm_net(make_norm(4, 0.9, form)), TinyForward, ema=0.9)
    for index in range(3):
        for each in (plain, rig):
            each.step(RATE, [tiny_batch(index)])
        assert not rig.network.bn.step_statistics.asnumpy().any()
    assert rig.state().keys() == plain.state().keys()
    for name in named_parameters(plain.network):
        np.testing.assert_allclose(rig.value(name), plain.value(name), rtol=1e-4, atol=1e-6)


@FORMS
def test_a_step_of_two_micro_batches(graph_mode: None, form: str) -> None:
    rig = Rig(norm_net(make_norm(4, 0.9, form)), TinyForward, accumulate=2, ema=0.9)
    batches = [tiny_batch(0), tiny_batch(1)]
    features = np.concatenate([rig.network.stem(x).asnumpy() for x, _ in batches])
    rig.step(RATE, batches)
    first, both = features[:2].mean((0, 2, 3)), features.mean((0, 2, 3))
    expected = 0.9 * 0.1 * first + 0.1 * both
    np.testing.assert_allclose(rig.value("bn.moving_mean"), expected, rtol=1e-4, atol=1e-6)
    assert not rig.network.bn.step_statistics.asnumpy().any()

    before = rig.state()
    x, target = tiny_batch(9)
    _, finite = rig.step(RATE, [(x * float("nan"), target), tiny_batch(3)])
    assert not bool(finite.asnumpy())
    assert rig.state() == before
    assert not rig.network.bn.step_statistics.asnumpy().any()
    _, finite = rig.step(RATE, batches)
    assert bool(finite.asnumpy())


@pytest.mark.parametrize("norm", ["cmbn", "cbn"])
def test_evaluation_names_and_frozen_statistics_are_those_of_bn(
    norm: str, graph_mode: None
) -> None:
    padding = "same"  # at stride 2: a convolution of MindSpore's, equal to the bit in training
    style = conv_style(ModelConfig(norm=norm, stride2_padding=padding), "mish")
    assert (style.fused is None) == (norm == "cbn")
    network = nn.SequentialCell([ConvNormAct(3, 4, 3, style, 2)])
    style = conv_style(ModelConfig(cpu_fused="off", stride2_padding=padding), "mish")
    plain = nn.SequentialCell([ConvNormAct(3, 4, 3, style, 2)])
    assert list(named_parameters(network)) == list(named_parameters(plain))
    assert (len(step_state(network)), len(run_state(network))) == {"cmbn": (1, 0), "cbn": (0, 3)}[
        norm
    ]
    assert list(batch_norms(network)) == ["0.bn"]
    assert sum(p.size for p in network.trainable_params()) == 3 * 4 * 9 + 2 * 4
    rng = np.random.default_rng(0)
    for name, value in named_parameters(plain).items():
        value.set_data(Tensor(rng.uniform(0.5, 1.5, value.shape), ms.float32))
        named_parameters(network)[name].set_data(value.value())
    x = tiny_batch(0)[0]
    expected = plain.set_train(False)(x).asnumpy()
    np.testing.assert_array_equal(network.set_train(False)(x).asnumpy(), expected)
    freeze(network, ("0.bn",))
    np.testing.assert_array_equal(network.set_train(True)(x).asnumpy(), expected)

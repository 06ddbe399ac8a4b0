"""Fused batch normalisation and activation against numpy, stock operators, and in a train step."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import ParameterTuple, Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.train import OptimizerConfig, TrainConfig
from mindyolo_v4.cpu_ops import norm_act
from mindyolo_v4.cpu_ops.activation import leaky_relu
from mindyolo_v4.cpu_ops.norm_act import FusedNormAct, fused_library
from mindyolo_v4.engine.optimizer import build_optimizer
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle, choose_fused
from mindyolo_v4.runtime.precision import to_mixed_precision
from tests.support.mean_square import MeanSquare
from tests.support.tiny_task import RUNTIME
from tests.support.weighted import WeightedOutput

REPOSITORY = Path(__file__).resolve().parents[2]
EPS, MOMENTUM = 1e-3, 0.9
MODEL = ModelConfig(bn_eps=EPS, bn_momentum=MOMENTUM)
SLOPES = {"leaky": 0.1, "leaky 0.125": 0.125}
ACTIVATIONS = ("mish", "silu", *SLOPES)
STATISTICS = ("moving_mean", "moving_variance")


class Stock(nn.Cell):
    """The same as FusedNormAct in stock operators."""

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)
        self.act = stock_activation(activation)

    def construct(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


def stock_activation(name: str) -> nn.Cell:
    if name in SLOPES:
        return leaky_relu(SLOPES[name])
    return nn.Mish() if name == "mish" else nn.SiLU()


def fused(channels: int, activation: str, library: Path) -> FusedNormAct:
    name, slope = activation.split()[0], SLOPES.get(activation, 0.0)
    act = stock_activation(activation)
    return FusedNormAct(channels, EPS, MOMENTUM, name, slope, act, library).set_train()


def reference_activation(
    z: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the activation's value and derivative."""
    sigmoid = np.exp(-np.logaddexp(0, -z))
    if name == "mish":
        tanh = np.tanh(np.logaddexp(0, z))
        return z * tanh, tanh + z * (1 - tanh**2) * sigmoid
    if name == "silu":
        return z * sigmoid, sigmoid * (1 + z * (1 - sigmoid))
    slope = SLOPES[name]
    return np.where(z > 0, z, slope * z), np.where(z > 0, 1.0, slope)


def reference(
    x: NDArray, gamma: NDArray, beta: NDArray, weights: NDArray, name: str
) -> dict[str, NDArray[np.float64]]:
    """Compute value and gradients of sum(weights * y), and the statistics, in float64."""
    x, gamma, beta, weights = (array.astype(np.float64) for array in (x, gamma, beta, weights))
    axes, count = (0, 2, 3), x.size // x.shape[1]
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    deviation = np.sqrt(variance + EPS)
    normal = (x - mean) / deviation
    y, slope = reference_activation(normal * gamma[:, None, None] + beta[:, None, None], name)
    dz = weights * slope
    dbeta, dgamma = dz.sum(axes), (dz * normal).sum(axes)
    inner = dz - dbeta[:, None, None] / count - normal * dgamma[:, None, None] / count
    statistics = (mean.ravel(), variance.ravel() * count / (count - 1))
    return {
        "y": y,
        "dx": gamma[:, None, None] / deviation * inner,
        "dgamma": dgamma,
        "dbeta": dbeta,
        "moving_mean": (1 - MOMENTUM) * statistics[0],
        "moving_variance": MOMENTUM + (1 - MOMENTUM) * statistics[1],
    }


def run(cell: FusedNormAct, x: NDArray, weights: NDArray) -> dict[str, NDArray[np.float32]]:
    """Return what `reference` returns, by one gradient step."""
    gradient = ms.grad(WeightedOutput(cell), 0, ParameterTuple([cell.gamma, cell.beta]))
    dx, (dgamma, dbeta) = gradient(Tensor(x), Tensor(weights))
    found = {
        "dx": dx,
        "dgamma": dgamma,
        "dbeta": dbeta,
        **{name: getattr(cell, name) for name in STATISTICS},
    }
    found = {name: value.asnumpy().copy() for name, value in found.items()}
    return {"y": cell(Tensor(x)).asnumpy(), **found}


def batch(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], ...]:
    """Return x of large mean, weights, gamma and beta that reach both tails of the activations."""
    x, weights = rng.normal(5, 3, size=shape), rng.normal(size=shape)
    gamma, beta = rng.uniform(-6, 6, size=shape[1]), rng.normal(scale=3, size=shape[1])
    return tuple(array.astype(np.float32) for array in (x, weights, gamma, beta))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(2, 5, 13, 17), (1, 3, 7, 1), (3, 2, 64, 65)])
def test_values_gradients_and_statistics_against_float64(
    activation: str, shape: tuple[int, ...], rng: np.random.Generator, library: Path
) -> None:
    x, weights, gamma, beta = batch(rng, shape)
    cell = fused(shape[1], activation, library)
    cell.gamma.set_data(Tensor(gamma))
    cell.beta.set_data(Tensor(beta))
    expected, found = reference(x, gamma, beta, weights, activation), run(cell, x, weights)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-6, atol=2e-6 * np.abs(value).max(), err_msg=name
        )


def test_mish_gradient_is_better_than_stock(rng: np.random.Generator, library: Path) -> None:
    x, weights = (
        rng.normal(scale=4, size=(2, 1, 50, 50)).astype(np.float32),
        np.ones((2, 1, 50, 50), np.float32),
    )
    gamma, beta = np.full(1, 5, np.float32), np.zeros(1, np.float32)
    expected = reference(x, gamma, beta, weights, "mish")["dx"]
    errors = []
    for cell in (fused(1, "mish", library), Stock(1, "mish").set_train()):
        bn = cell if isinstance(cell, FusedNormAct) else cell.bn
        bn.gamma.set_data(Tensor(gamma))
        errors.append(
            np.abs(
                ms.grad(WeightedOutput(cell))(Tensor(x), Tensor(weights)).asnumpy() - expected
            ).max()
        )
    assert errors[0] < 0.1 * errors[1]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_tails_are_finite(activation: str, library: Path) -> None:
    cell = fused(1, activation, library)
    cell.gamma.set_data(Tensor(np.full(1, 1e4, np.float32)))
    x = np.linspace(-1, 1, 36, dtype=np.float32).reshape(1, 1, 6, 6)
    ones = np.ones_like(x)
    expected = reference(x, np.full(1, 1e4), np.zeros(1), ones, activation)
    found = run(cell, x, ones)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["dgamma"], expected["dgamma"], rtol=1e-4, atol=1e-5)


def test_running_statistics_follow_stock_and_so_does_evaluation(
    rng: np.random.Generator, library: Path
) -> None:
    stock, ours = Stock(4, "mish").set_train(), fused(4, "mish", library)
    for _ in range(4):
        x = Tensor(rng.normal(2, 3, size=(2, 4, 5, 5)).astype(np.float32))
        np.testing.assert_allclose(ours(x).asnumpy(), stock(x).asnumpy(), rtol=0, atol=2e-5)
    for name in STATISTICS:
        got, expected = getattr(ours, name), getattr(stock.bn, name)
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-5)
        expected.set_data(got)
    before = [getattr(ours, name).asnumpy().copy() for name in STATISTICS]
    np.testing.assert_array_equal(
        ours.set_train(False)(x).asnumpy(), stock.set_train(False)(x).asnumpy()
    )
    np.testing.assert_array_equal([getattr(ours, name).asnumpy() for name in STATISTICS], before)
    ours.set_train(True)(x)
    assert not np.array_equal(ours.moving_mean.asnumpy(), before[0])


class TwoPasses(nn.Cell):
    """Run a cell twice and read a running mean before, between and after."""

    def __init__(self, cell: nn.Cell, bn: nn.BatchNorm2d):
        super().__init__()
        self.cell, self.bn = cell, bn

    def construct(self, x: Tensor) -> tuple[Tensor, ...]:
        before = self.bn.moving_mean.value()
        y = self.cell(x)
        between = self.bn.moving_mean.value()
        z = self.cell(3 * y + 1)
        return before, between, self.bn.moving_mean.value(), z


def test_statistics_move_at_each_pass_in_the_order_of_the_graph(
    rng: np.random.Generator, library: Path
) -> None:
    stock, ours = Stock(2, "mish"), fused(2, "mish", library)
    x = Tensor(rng.normal(2, 3, size=(2, 2, 4, 4)).astype(np.float32))
    expected, found = (
        TwoPasses(cell, bn).set_train()(x) for cell, bn in ((stock, stock.bn), (ours, ours))
    )
    for got, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(got.asnumpy(), value.asnumpy(), rtol=1e-5, atol=1e-5)
    assert found[0].asnumpy().tolist() == [0.0, 0.0]
    assert not np.allclose(found[1].asnumpy(), found[2].asnumpy())
    np.testing.assert_array_equal(found[2].asnumpy(), ours.moving_mean.asnumpy())


def test_a_single_value_leaves_the_statistics_finite(library: Path) -> None:
    cell = fused(2, "leaky", library)
    y = cell(Tensor(np.array([3.0, -4.0], np.float32).reshape(1, 2, 1, 1)))
    assert y.asnumpy().ravel().tolist() == [0.0, 0.0]
    np.testing.assert_allclose(cell.moving_mean.asnumpy(), [0.3, -0.4], rtol=1e-6)
    np.testing.assert_allclose(cell.moving_variance.asnumpy(), [0.9, 0.9], rtol=1e-6)


def test_frozen_statistics_take_the_stock_path(rng: np.random.Generator, library: Path) -> None:
    cell = fused(3, "mish", library)
    cell.use_batch_statistics = False
    x = rng.normal(5, 3, size=(2, 3, 4, 4)).astype(np.float32)
    y, _ = reference_activation(x.astype(np.float64) / np.sqrt(1 + EPS), "mish")
    np.testing.assert_allclose(cell(Tensor(x)).asnumpy(), y, rtol=0, atol=1e-5)
    assert cell.moving_mean.asnumpy().tolist() == [0.0] * 3


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_comes_out(
    activation: str, bad: float, library: Path, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(2, 3, 9, 9)).astype(np.float32)
    x[1, 1, 4, 4] = bad
    found = run(fused(3, activation, library), x, np.ones_like(x))
    for name in ("y", "dx", "moving_mean", "moving_variance"):
        channels = np.isfinite(
            np.moveaxis(found[name], 1 if found[name].ndim == 4 else 0, 0).reshape(3, -1)
        )
        assert channels[[0, 2]].all()
        assert not (channels[1] if name != "y" else channels[1].all()).any(), name


def test_the_train_step_restores_statistics_after_nan(
    rng: np.random.Generator, library: Path
) -> None:
    block = ConvNormAct(2, 3, 3, ConvStyle(MODEL, "mish", library)).set_train()
    assert isinstance(block.bn, FusedNormAct)
    optimizer = build_optimizer(block, OptimizerConfig())
    step = TrainStep(MeanSquare(block), block, optimizer, None, TrainConfig(), RUNTIME)
    x = rng.normal(size=(2, 2, 6, 6)).astype(np.float32)
    _, finite = step(0.1, [(Tensor(x),)])
    good = {name: value.asnumpy().copy() for name, value in named_parameters(block).items()}
    assert bool(finite.asnumpy())
    assert not np.array_equal(good["bn.moving_mean"], np.zeros(3))
    broken = x.copy()
    broken[0, 0, 0, 0] = np.nan
    _, finite = step(0.1, [(Tensor(broken),)])
    assert not bool(finite.asnumpy())
    for name, value in named_parameters(block).items():
        np.testing.assert_array_equal(value.asnumpy(), good[name], err_msg=name)
    values, finite = step(0.1, [(Tensor(x),)])
    assert bool(finite.asnumpy()) and np.isfinite(values.asnumpy()).all()


def test_mixed_precision(rng: np.random.Generator, library: Path) -> None:
    x = Tensor(rng.normal(size=(2, 2, 6, 6)).astype(np.float32))
    outputs = []
    for level in ("O0", "O2", "O3"):
        block = ConvNormAct(2, 3, 3, ConvStyle(MODEL, "mish", library))
        block.conv.weight.set_data(Tensor(np.full((3, 2, 3, 3), 0.5, np.float32)))
        outputs.append(to_mixed_precision(block, level).set_train()(x).asnumpy())
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=0, atol=1e-2)
    np.testing.assert_allclose(outputs[2], outputs[0], rtol=0, atol=1e-2)


HASH = """
import os, sys
os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: int(sys.argv[1])]))
from tests.cpu_ops.test_norm_act import training_hash
print(training_hash(), training_hash())
"""


def training_hash() -> str:
    """Train two fused blocks large enough for several threads; return a hash of all results."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(0)
    rng = np.random.default_rng(0)
    style = ConvStyle(MODEL, "mish", fused_library())
    block = nn.SequentialCell(
        ConvNormAct(3, 16, 3, style), ConvNormAct(16, 12, 1, style)
    ).set_train()
    for parameter in block.trainable_params():
        parameter.set_data(Tensor(rng.normal(size=parameter.shape).astype(np.float32)))
    gradient = ms.grad(WeightedOutput(block), 0, block.trainable_params())
    digest = hashlib.sha256()
    for _ in range(3):
        x, weights = (
            rng.normal(size=(2, channels, 61, 61)).astype(np.float32) for channels in (3, 12)
        )
        dx, gradients = gradient(Tensor(x), Tensor(weights))
        for value in (dx, *gradients, *block.get_parameters()):
            digest.update(value.asnumpy().tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_runs_are_bit_identical_with_one_or_several_threads(library: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    hashes = []
    for threads in (1, 2):
        command = [sys.executable, "-c", HASH, str(threads)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        hashes += done.stdout.split()[-2:]
    assert len(set(hashes)) == 1


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_a_compiler_auto_falls_back_and_on_complains(
    graph_mode: None, no_compiler: None
) -> None:
    assert choose_fused("auto") == (None, "stock operators (neither g++ nor c++ is on PATH)")
    assert choose_fused("off") == (None, "stock operators (model.cpu_fused: off)")
    with pytest.raises(UserError, match=r"model\.cpu_fused.*neither g\+\+"):
        choose_fused("on")


def test_only_the_cpu_in_graph_mode_has_it(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        choose_fused("auto") == choose_fused("on") == (library, f"fused operators from {library}")
    )
    monkeypatch.setattr(norm_act, "on_cpu", lambda: False)
    assert choose_fused("auto")[0] is None
    monkeypatch.undo()
    ms.set_context(mode=ms.PYNATIVE_MODE)  # the fixture of graph mode puts it back
    library, note = choose_fused("auto")
    assert library is None and "graph mode" in note

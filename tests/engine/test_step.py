"""The train step against numbers worked out by hand and against itself."""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindyolo_v4.checkpoint.parameters import batch_statistics, named_parameters
from mindyolo_v4.config.train import EmaConfig, OptimizerConfig
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.optimizer import build_optimizer, freeze, optimizer_state
from mindyolo_v4.engine.step import StepSettings, TrainStep
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.device import to_mixed_precision
from tests.support.tiny import Linear, LinearForward, TinyForward, TinyNet, tiny_batch

RATE = 0.1


class Rig:
    """A network with everything around it that a step changes."""

    def __init__(self, network, forward, optimizer=None, ema=0.0, **settings):
        self.network = network.set_train(True)
        self.forward = forward(network)
        self.optimizer = build_optimizer(network, optimizer or OptimizerConfig())
        self.ema = Ema(network, EmaConfig(decay=ema, ramp_steps=10.0)) if ema else None
        self.step = TrainStep(
            self.forward, network, self.optimizer, self.ema, StepSettings(**settings)
        )

    def state(self) -> dict[str, bytes]:
        tensors = {
            f"network.{name}": value for name, value in named_parameters(self.network).items()
        }
        tensors |= {
            f"optimizer.{n}": value
            for n, value in optimizer_state(self.network, self.optimizer).items()
        }
        if self.ema:
            tensors |= {f"ema.{name}": value for name, value in self.ema.by_name().items()}
            tensors["ema_updates"] = self.ema.updates
        return {name: value.asnumpy().tobytes() for name, value in tensors.items()}

    def value(self, name: str) -> np.ndarray:
        return named_parameters(self.network)[name].asnumpy().copy()


def linear_input(*values: float) -> tuple[Tensor]:
    return (Tensor(np.asarray(values, np.float32).reshape(-1, 1, 1, 1)),)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_coupled_decay_on_kernels_only(any_mode, nesterov):
    settings = OptimizerConfig(momentum=0.9, weight_decay=0.5, nesterov=nesterov)
    rig = Rig(Linear(2.0, 1.0), LinearForward, settings)
    w, b, v_w, v_b = 2.0, 1.0, 0.0, 0.0
    for x, rate in ((3.0, 0.1), (-1.0, 0.05), (2.0, 0.2)):
        values, finite = rig.step(rate, [linear_input(x)])
        assert bool(finite.asnumpy())
        assert values.asnumpy() == pytest.approx([w * x + b] * 2, rel=1e-6)
        g_w, g_b = x + 0.5 * w, 1.0  # the bias does not decay
        v_w, v_b = 0.9 * v_w + g_w, 0.9 * v_b + g_b
        w -= rate * ((g_w + 0.9 * v_w) if nesterov else v_w)
        b -= rate * ((g_b + 0.9 * v_b) if nesterov else v_b)
    assert rig.value("conv.weight").item() == pytest.approx(w, rel=1e-6)
    assert rig.value("conv.bias").item() == pytest.approx(b, rel=1e-6)


def test_adamw_with_decoupled_decay_on_kernels_only(any_mode):
    settings = OptimizerConfig(kind="adamw", momentum=0.9, beta2=0.99, weight_decay=0.5)
    rig = Rig(Linear(2.0, 1.0), LinearForward, settings)
    values = {"conv.weight": 2.0, "conv.bias": 1.0}
    first, second = dict.fromkeys(values, 0.0), dict.fromkeys(values, 0.0)
    for x, rate in ((3.0, 0.1), (-1.0, 0.05), (2.0, 0.2)):
        rig.step(rate, [linear_input(x)])
        for name, gradient, decay in (("conv.weight", x, 0.5), ("conv.bias", 1.0, 0.0)):
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.99 * second[name] + 0.01 * gradient**2
            values[name] -= rate * (
                first[name] / (second[name] ** 0.5 + 1e-6) + decay * values[name]
            )
    for name, value in values.items():
        assert rig.value(name).item() == pytest.approx(value, rel=1e-5)


def test_adamw_leaves_everything_alone_when_a_step_is_not_finite(graph_mode):
    rig = Rig(Linear(2.0, 1.0), LinearForward, OptimizerConfig(kind="adamw"))
    rig.step(0.1, [linear_input(3.0)])
    before = {
        name: value.asnumpy().copy()
        for name, value in optimizer_state(rig.network, rig.optimizer).items()
    }
    weight = rig.value("conv.weight")
    _, finite = rig.step(0.1, [linear_input(float("nan"))])
    assert not bool(finite.asnumpy())
    after = optimizer_state(rig.network, rig.optimizer)
    assert {"moments.conv.weight", "second_moments.conv.bias", "global_step"} <= set(after)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name].asnumpy(), value, err_msg=name)
    np.testing.assert_array_equal(rig.value("conv.weight"), weight)


def test_decay_on_all(graph_mode):
    rig = Rig(Linear(2.0, 1.0), LinearForward, OptimizerConfig(weight_decay=0.5, decay_on="all"))
    rig.step(0.1, [linear_input(3.0)])
    assert rig.value("conv.bias").item() == pytest.approx(1.0 - 0.1 * (1.0 + 0.5), rel=1e-6)


def test_dense_matrices_decay_as_kernels_do():
    network = nn.SequentialCell(
        [nn.Conv2d(3, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.Dense(4, 2)]
    )
    optimizer = build_optimizer(network, OptimizerConfig(weight_decay=0.5))
    decays = dict(zip((p.name for p in optimizer.parameters), optimizer.decay_flags, strict=True))
    assert {name for name, flag in decays.items() if flag} == {"0.weight", "2.weight"}
    assert len(decays) == 6


def test_momentum_is_that_of_the_library_to_the_bit(graph_mode):
    settings, states = OptimizerConfig(momentum=0.9, weight_decay=0.05), []
    for library in (False, True):
        rig = Rig(TinyNet(), TinyForward, settings)
        if library:
            kernels = [p for p in rig.network.trainable_params() if p.ndim > 1]
            rest = [p for p in rig.network.trainable_params() if p.ndim == 1]
            groups = [
                {"params": kernels, "weight_decay": 0.05},
                {"params": rest, "weight_decay": 0.0},
            ]
            groups.append({"order_params": rig.network.trainable_params()})
            rig.optimizer = nn.Momentum(groups, learning_rate=0.0, momentum=0.9)
            rig.step = TrainStep(rig.forward, rig.network, rig.optimizer, None, StepSettings())
        for seed in range(4):
            rig.step(0.1, [tiny_batch(seed)])
        states.append(rig.state())
    assert states[0] == states[1]
    assert len(states[0]) > 6


@pytest.mark.parametrize("scale", ["none", "static", "dynamic"])
def test_clip_by_global_norm_acts_on_the_unscaled_gradient(graph_mode, scale):
    settings = OptimizerConfig(momentum=0.0, weight_decay=0.0)
    rig = Rig(Linear(2.0, 1.0), LinearForward, settings, clip_norm=1.0, loss_scale=scale)
    rig.step(0.1, [linear_input(3.0)])  # gradient (3, 1), norm sqrt(10)
    assert rig.value("conv.weight").item() == pytest.approx(
        2.0 - 0.1 * 3.0 / math.sqrt(10), rel=1e-5
    )
    assert rig.value("conv.bias").item() == pytest.approx(1.0 - 0.1 / math.sqrt(10), rel=1e-5)


def test_small_gradients_are_not_clipped(graph_mode):
    rig = Rig(Linear(2.0, 1.0), LinearForward, OptimizerConfig(weight_decay=0.0), clip_norm=10.0)
    rig.step(0.1, [linear_input(3.0)])
    assert rig.value("conv.weight").item() == pytest.approx(1.7, rel=1e-6)


def test_ema_formula(any_mode):
    rig = Rig(
        Linear(2.0, 1.0), LinearForward, OptimizerConfig(momentum=0.0, weight_decay=0.0), ema=0.9
    )
    average, w = 2.0, 2.0
    for n in (1, 2, 3):
        rig.step(0.1, [linear_input(3.0)])
        w -= 0.1 * 3.0
        decay = 0.9 * (1.0 - math.exp(-n / 10.0))
        average = decay * average + (1.0 - decay) * w
    assert rig.ema.by_name()["conv.weight"].asnumpy().item() == pytest.approx(average, rel=1e-5)
    with rig.ema.swapped_in():
        assert rig.value("conv.weight").item() == pytest.approx(average, rel=1e-5)
    assert rig.value("conv.weight").item() == pytest.approx(w, rel=1e-6)


def test_ema_follows_batch_statistics(graph_mode):
    rig = Rig(TinyNet(), TinyForward, ema=0.5)
    rig.step(RATE, [tiny_batch(0)])
    decay = 0.5 * (1.0 - math.exp(-0.1))
    expected = (1.0 - decay) * rig.value("bn.moving_mean")  # the average started at 0
    np.testing.assert_allclose(rig.ema.by_name()["bn.moving_mean"].asnumpy(), expected, rtol=1e-5)


def test_accumulation_is_the_mean_over_micro_batches(any_mode):
    """2 micro-batches of 2 equal 1 of 4 when batch normalisation is frozen."""
    whole, halves = (
        Rig(network, TinyForward, accumulate=k)
        for network, k in ((frozen_net(), 1), (frozen_net(), 2))
    )
    for index in range(3):
        x, target = tiny_batch(index, 4)
        one, _ = whole.step(RATE, [(x, target)])
        two, _ = halves.step(RATE, [(x[:2], target[:2]), (x[2:], target[2:])])
        np.testing.assert_allclose(two.asnumpy(), one.asnumpy(), rtol=1e-5)
    for name in named_parameters(whole.network):
        np.testing.assert_allclose(
            halves.value(name), whole.value(name), rtol=2e-5, atol=1e-6, err_msg=name
        )


def frozen_net() -> TinyNet:
    network = TinyNet()
    freeze(network, ("bn",))
    return network


def test_freeze_holds_weights_and_statistics(graph_mode):
    network = TinyNet()
    assert set(freeze(network, ("stem", "bn"))) == {
        "stem.weight",
        "bn.gamma",
        "bn.beta",
        "bn.moving_mean",
        "bn.moving_variance",
    }
    rig = Rig(network, TinyForward)
    before = rig.state()
    rig.step(RATE, [tiny_batch(0)])
    after = rig.state()
    changed = {
        name for name in before if before[name] != after[name] and name.startswith("network.")
    }
    assert changed == {"network.head.weight", "network.head.bias"}


def test_freeze_refuses_an_unknown_prefix():
    with pytest.raises(UserError, match=r"train.freeze.*backbome.*bn, head, stem"):
        freeze(TinyNet(), ("backbome.",))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_non_finite_step_changes_nothing(any_mode, accumulate):
    rig = Rig(
        TinyNet(), TinyForward, ema=0.9, accumulate=accumulate, loss_scale="dynamic", clip_norm=5.0
    )
    good = [tiny_batch(index) for index in range(accumulate)]
    rig.step(RATE, good)
    before = rig.state()
    x, target = tiny_batch(9)
    spoiled = x.asnumpy().copy()
    spoiled[0, 0, 0, 0] = np.nan
    _, finite = rig.step(RATE, [(Tensor(spoiled), target), *good[1:]])
    assert not bool(finite.asnumpy())
    assert rig.state() == before
    assert rig.step.scaler.scale_value.asnumpy() == 512.0
    _, finite = rig.step(RATE, good)  # the bad micro-batch left nothing behind
    assert bool(finite.asnumpy())
    assert rig.state() != before


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_refused_returns_to_the_statistics_last_remembered(graph_mode, accumulate):
    rig = Rig(TinyNet(), TinyForward, accumulate=accumulate)
    batches = [tiny_batch(index) for index in range(accumulate)]
    rig.step(RATE, batches)  # compiled by now
    for value in batch_statistics(rig.network).values():
        ops.assign(value, value + 1.0)
    rig.step.update.remember_statistics()
    before = rig.state()
    _, finite = rig.step(RATE, [(tiny_batch(9)[0] * float("inf"), tiny_batch(9)[1]), *batches[1:]])
    assert not bool(finite.asnumpy())
    assert rig.state() == before


def test_infinite_loss_with_finite_gradients_is_refused(graph_mode):
    rig = Rig(Linear(1.0, 1.0), LinearForward)
    before = rig.state()
    huge = Tensor(np.full((2, 1, 1, 1), 3e38, np.float32))  # the mean overflows on its way
    _, finite = rig.step(RATE, [(huge,)])
    assert not bool(finite.asnumpy())
    assert rig.state() == before


def test_running_statistics_move_once_a_step(graph_mode):
    rig = Rig(TinyNet(), TinyForward)
    x, target = tiny_batch(0)
    features = rig.network.stem(x).asnumpy()
    rig.step(RATE, [(x, target)])
    np.testing.assert_allclose(
        rig.value("bn.moving_mean"), 0.1 * features.mean((0, 2, 3)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        rig.step.update.backup[0].asnumpy(),
        named_parameters(rig.network)["bn.moving_mean"].asnumpy(),
    )


def test_dynamic_scale_halves_and_recovers(graph_mode):
    rig = Rig(
        Linear(1.0, 1.0),
        LinearForward,
        loss_scale="dynamic",
        loss_scale_value=1024.0,
        scale_window=2,
    )
    scales = []
    for x in (1.0, math.inf, 1.0, 1.0):
        rig.step(1e-3, [linear_input(x)])
        scales.append(float(rig.step.scaler.scale_value.asnumpy()))
    assert scales == [1024.0, 512.0, 512.0, 1024.0]


def test_mixed_precision_step_keeps_float32_parameters(graph_mode):
    rig = Rig(
        to_mixed_precision(TinyNet(), "O2"), TinyForward, loss_scale="dynamic", clip_norm=10.0
    )
    reference = Rig(TinyNet(), TinyForward, clip_norm=10.0)
    for index in range(2):
        values, finite = rig.step(RATE, [tiny_batch(index)])
        expected, _ = reference.step(RATE, [tiny_batch(index)])
        assert bool(finite.asnumpy())
        np.testing.assert_allclose(values.asnumpy(), expected.asnumpy(), rtol=0.02, atol=2e-3)
    assert {value.dtype for value in named_parameters(rig.network).values()} == {ms.float32}


def test_nesterov_without_momentum():
    with pytest.raises(UserError, match=r"optimizer.nesterov: needs optimizer.momentum > 0"):
        build_optimizer(TinyNet(), OptimizerConfig(momentum=0.0, nesterov=True))


def test_evaluation_between_steps_compiles_nothing(graph_mode, monkeypatch):
    rig = Rig(TinyNet(), TinyForward, ema=0.9)
    rig.step(RATE, [tiny_batch(0)])
    rig.network.set_train(False)
    evaluated = [rig.network(tiny_batch(5)[0]).asnumpy()]
    rig.network.set_train(True)
    compiled = []
    original = ms.common.api._CellGraphExecutor.compile

    def counting(self, obj, *args, **kwargs):
        phase, fresh = original(self, obj, *args, **kwargs)
        compiled.append(fresh)
        return phase, fresh

    monkeypatch.setattr(ms.common.api._CellGraphExecutor, "compile", counting)
    rig.step(RATE, [tiny_batch(1)])
    with rig.ema.swapped_in():
        rig.network.set_train(False)
        evaluated.append(rig.network(tiny_batch(5)[0]).asnumpy())
        rig.network.set_train(True)
    rig.step(RATE, [tiny_batch(2)])
    assert len(compiled) == 3
    assert not any(compiled)
    assert not np.array_equal(*evaluated)

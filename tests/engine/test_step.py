"""The train step against numbers worked out by hand and against itself."""

import math
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from mindyolo_v4.checkpoint.parameters import batch_statistics, named_parameters
from mindyolo_v4.config.train import OptimizerConfig
from mindyolo_v4.runtime.precision import to_mixed_precision
from tests.support.rig import RATE, Rig, frozen_net, linear_input
from tests.support.tiny import Linear, LinearForward, TinyForward, TinyNet, tiny_batch
from tests.support.tiny_task import RUNTIME


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


@pytest.mark.parametrize("accumulate", [1, 2])
def test_where_overflows_saturate_mindspores_status_decides(graph_mode, monkeypatch, accumulate):
    settings = {"accumulate": accumulate, "loss_scale": "dynamic"}
    saturating = replace(RUNTIME, overflow_saturates=True)
    plain = Rig(TinyNet(), TinyForward, **settings)
    rig = Rig(TinyNet(), TinyForward, runtime=saturating, **settings)
    batches = [tiny_batch(index) for index in range(accumulate)]
    for each in (plain, rig):
        each.step(RATE, batches)
    assert rig.state() == plain.state()  # nothing has overflown

    monkeypatch.setattr(ms.amp, "all_finite", _overflown)
    rig = Rig(TinyNet(), TinyForward, runtime=saturating, **settings)
    before = rig.state()
    _, finite = rig.step(RATE, batches)
    assert not bool(finite.asnumpy())
    assert rig.state() == before
    assert rig.step.scaler.scale_value.asnumpy() == 512.0


def _overflown(gradients):
    return gradients[0].sum() > 1e30


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


def test_dynamic_scale_halves_and_recovers(graph_mode, monkeypatch):
    monkeypatch.setattr("mindyolo_v4.engine.step._SCALE_WINDOW", 2)
    rig = Rig(Linear(1.0, 1.0), LinearForward, loss_scale="dynamic", loss_scale_value=1024.0)
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

"""One operator for all parameters is bit-equal to MindSpore's own operators, one per parameter."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.train import EmaConfig, OptimizerConfig, TrainConfig
from mindyolo_v4.cpu_ops.update import copy_operator
from mindyolo_v4.engine import mapping
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.optimizer import build_optimizer
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle
from tests.support.mean_square import MeanSquare
from tests.support.tiny_task import RUNTIME

MODEL = ModelConfig(bn_eps=1e-3, bn_momentum=0.9)


pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture
def network(library) -> nn.SequentialCell:
    return blocks(library)


def blocks(library: Path) -> nn.SequentialCell:
    """Return blocks whose largest kernel is beyond what one thread does."""
    style = ConvStyle(MODEL, "mish", library)
    return nn.SequentialCell(
        [ConvNormAct(3, 64, 3, style), ConvNormAct(64, 72, 3, style), ConvNormAct(72, 5, 1, style)]
    )


class Update(nn.Cell):
    """What a train step does with gradients."""

    def __init__(self, optimizer: nn.Optimizer, average: Ema):
        super().__init__(auto_prefix=False)
        self.optimizer, self.average = optimizer, average

    def construct(self, rate: Tensor, gradients: tuple[Tensor, ...]) -> Tensor:
        ms.ops.assign(self.optimizer.learning_rate, rate)
        self.optimizer(gradients)
        return self.average()


@pytest.mark.parametrize("decay_on", ["conv", "all"])
def test_momentum_and_average_are_those_of_one_operator_a_parameter(
    network, rng, monkeypatch, decay_on
) -> None:
    settings = OptimizerConfig(momentum=0.9, weight_decay=0.05, decay_on=decay_on)
    weights = network.trainable_params()
    start = [rng.normal(size=weight.shape).astype(np.float32) for weight in weights]
    steps = [
        [rng.normal(size=weight.shape).astype(np.float32) for weight in weights] for _ in range(3)
    ]
    found = []
    for at_once in (True, False):
        if not at_once:
            monkeypatch.setattr(mapping, "is_fused", lambda _: False)
        for weight, value in zip(weights, start, strict=True):
            weight.set_data(Tensor(value))
        sgd, average = (
            build_optimizer(network, settings),
            Ema(network, EmaConfig(decay=0.9, ramp_steps=2)),
        )
        assert sgd.at_once is average.at_once is at_once
        update = Update(sgd, average)
        for step, gradients in enumerate(steps):
            update(
                Tensor(0.1 * (step + 1), ms.float32), tuple(Tensor(value) for value in gradients)
            )
        found.append(
            [value.asnumpy().copy() for value in (*weights, *sgd.moments, *average.averages)]
        )
        assert sgd.global_step.asnumpy() == 3
    for at_once, each in zip(*found, strict=True):
        np.testing.assert_array_equal(at_once, each)
    assert not np.array_equal(found[0][0], start[0])


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_is_the_same_to_the_bit(library, rng, monkeypatch, accumulate) -> None:
    batches = rng.normal(size=(8, 2, 3, 6, 6)).astype(np.float32)
    batches[5, 0, 0, 0, 0] = np.nan
    found = []
    for at_once in (True, False):
        if not at_once:
            monkeypatch.setattr(mapping, "is_fused", lambda _: False)
        network = blocks(library).set_train()
        for name, weight in named_parameters(network).items():
            if weight.ndim > 1:
                values = np.random.default_rng(len(name)).normal(scale=0.1, size=weight.shape)
                weight.set_data(Tensor(values.astype(np.float32)))
        sgd, average = (
            build_optimizer(network, OptimizerConfig()),
            Ema(network, EmaConfig(decay=0.9, ramp_steps=2)),
        )
        step = TrainStep(
            MeanSquare(network),
            network,
            sgd,
            average,
            TrainConfig(accumulate=accumulate, clip_norm=0.5),
            RUNTIME,
        )
        assert step.update.at_once is at_once
        losses, finite = [], []
        for first in range(0, len(batches), accumulate):
            values, good = step(
                0.1, [(Tensor(batch),) for batch in batches[first : first + accumulate]]
            )
            losses.append(float(values.asnumpy()[0]))
            finite.append(bool(good.asnumpy()))
        parameters = (*named_parameters(network).values(), *sgd.moments, *average.averages)
        found.append((losses, finite, [value.asnumpy().copy() for value in parameters]))
    assert finite.count(False) == 1 and len(finite) == 8 // accumulate
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    for at_once, each in zip(found[0][2], found[1][2], strict=True):
        assert np.isfinite(at_once).all()
        np.testing.assert_array_equal(at_once, each)


def test_decay_does_not_touch_what_is_excluded(network) -> None:
    sgd = build_optimizer(network, OptimizerConfig(momentum=0.5, weight_decay=0.25))
    weights = network.trainable_params()
    for weight in weights:
        weight.set_data(Tensor(np.full(weight.shape, 2, np.float32)))
    average = Ema(network, EmaConfig(decay=0.5, ramp_steps=1))
    Update(sgd, average)(
        Tensor(0.5, ms.float32), tuple(Tensor(np.ones(w.shape, np.float32)) for w in weights)
    )
    for weight, moment in zip(weights, sgd.moments, strict=True):
        expected = 1 + (0.25 * 2 if weight.ndim > 1 else 0)  # v = g + decay w
        assert set(moment.asnumpy().ravel()) == {expected} and set(weight.asnumpy().ravel()) == {
            2 - 0.5 * expected
        }
    decay = np.float32(0.5 * (1 - np.exp(-1.0)))
    averaged = dict(zip(average.live_by_name, average.averages, strict=True))["0.bn.gamma"]
    np.testing.assert_allclose(averaged.asnumpy(), decay * 2 + (1 - decay) * 1.5, rtol=1e-6)


class Swap(nn.Cell):
    """Copy `first` to `second` in one branch, `second` to `first` in the other, and read both."""

    def __init__(self, first: list[Parameter], second: list[Parameter]):
        super().__init__()
        self.first, self.second = ms.ParameterTuple(first), ms.ParameterTuple(second)
        self.copy = copy_operator(len(first))

    def construct(self, forth: Tensor) -> tuple[Tensor, ...]:
        before = self.first[0] + 0.0
        if forth > 0:
            self.copy(*self.first, *self.second)
        else:
            self.copy(*self.second, *self.first)
        return before, self.first[0] + 0.0, self.second[0] + 0.0


def test_a_copy_keeps_its_place_among_reads(rng) -> None:
    values = [
        rng.normal(size=shape).astype(np.float32)
        for shape in [(3,), (300, 400), (2, 2), (3,), (300, 400), (2, 2)]
    ]
    for forth in (1.0, -1.0):
        parameters = [Parameter(Tensor(value), name=f"p{i}") for i, value in enumerate(values)]
        found = [value.asnumpy() for value in Swap(parameters[:3], parameters[3:])(Tensor(forth))]
        source = values[:3] if forth > 0 else values[3:]
        np.testing.assert_array_equal(found[0], values[0])
        np.testing.assert_array_equal(found[1], source[0])
        np.testing.assert_array_equal(found[2], source[0])
        for value, expected in zip(parameters, (*source, *source), strict=True):
            np.testing.assert_array_equal(value.asnumpy(), expected)


def test_what_is_not_float32_is_refused(rng) -> None:
    parameters = [
        Parameter(Tensor(rng.normal(size=3).astype(np.float16)), name=f"p{i}") for i in range(2)
    ]
    with pytest.raises(RuntimeError, match="copy"):
        Swap(parameters[:1], parameters[1:])(Tensor(1.0))


def test_half_precision_and_stock_networks_keep_one_operator_a_parameter(network) -> None:
    assert build_optimizer(network, OptimizerConfig()).at_once
    network.to_float(ms.float16)
    for parameter in network.trainable_params():
        parameter.set_dtype(ms.float16)
    assert not build_optimizer(network, OptimizerConfig()).at_once
    stock = ConvNormAct(3, 4, 3, ConvStyle(MODEL, "mish"))
    assert not build_optimizer(stock, OptimizerConfig()).at_once

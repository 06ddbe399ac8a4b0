"""Exponential moving averages against numbers worked out by hand."""

import math

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.train import EmaConfig, OptimizerConfig
from mindyolo_v4.engine.ema import Ema
from tests.support.rig import RATE, Rig, linear_input
from tests.support.tiny import Linear, LinearForward, TinyForward, TinyNet, tiny_batch


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


@pytest.mark.usefixtures("graph_mode")
def test_the_network_has_the_averages_inside_the_block_only():
    network = TinyNet()
    ema = Ema(network, EmaConfig(decay=0.5, ramp_steps=1.0))
    live = network.head.bias.asnumpy().copy()
    average = ema.by_name()["head.bias"]
    average.set_data(Tensor(live + 1.0))
    with ema.swapped_in():
        assert np.array_equal(network.head.bias.asnumpy(), live + 1.0)
    assert np.array_equal(network.head.bias.asnumpy(), live)

"""SGD with momentum and AdamW against numbers worked out by hand, decay, frozen parameters."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.train import OptimizerConfig, TrainConfig
from mindyolo_v4.engine.optimizer import build_optimizer, freeze, optimizer_state, recompute
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.blocks import ConvNormAct, Residual, conv_style
from mindyolo_v4.runtime.precision import to_mixed_precision
from tests.support.rig import RATE, Rig, linear_input
from tests.support.tiny import Linear, LinearForward, TinyForward, TinyNet, tiny_batch
from tests.support.tiny_task import RUNTIME


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
            rig.step = TrainStep(
                rig.forward, rig.network, rig.optimizer, None, TrainConfig(), RUNTIME
            )
        for seed in range(4):
            rig.step(0.1, [tiny_batch(seed)])
        states.append(rig.state())
    assert states[0] == states[1]
    assert len(states[0]) > 6


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


class Network(nn.Cell):
    """Two parts with everything that the real ones are made of."""

    def __init__(self, fused: str):
        super().__init__()
        style = conv_style(ModelConfig(cpu_fused=fused), "mish")
        self.backbone = nn.SequentialCell(ConvNormAct(3, 4, 3, style), Residual(4, 4, style))
        self.head = ConvNormAct(4, 2, 1, style)

    def construct(self, x):
        return self.head(self.backbone(x))


@pytest.mark.parametrize(
    ("fused", "level", "parts"),
    [
        ("off", "O0", ("backbone",)),
        ("on", "O0", ("backbone", "head")),
        ("off", "O2", ("backbone", "head")),
    ],
)
def test_recomputed_activations_change_no_bit(graph_mode, fused, level, parts):
    kept = Rig(to_mixed_precision(Network(fused), level), TinyForward)
    network = Network(fused)
    for name, value in named_parameters(network).items():
        value.set_data(Tensor(kept.value(name)))
    recompute(network, parts)
    again = Rig(to_mixed_precision(network, level), TinyForward)
    for index in range(3):
        losses = [rig.step(RATE, [tiny_batch(index)])[0].asnumpy() for rig in (kept, again)]
        assert losses[0].tobytes() == losses[1].tobytes()
    assert again.state() == kept.state()  # running statistics too


def test_a_part_to_recompute_must_exist(graph_mode):
    with pytest.raises(UserError, match=r"train.recompute: no part .* stem, bn, head\)"):
        recompute(TinyNet(), ("backbone",))

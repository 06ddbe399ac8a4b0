"""A network with everything around it that a step changes, for tests of the engine."""

import numpy as np
from mindspore import Tensor

from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.config.train import EmaConfig, OptimizerConfig, TrainConfig
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.optimizer import build_optimizer, freeze, optimizer_state
from mindyolo_v4.engine.step import TrainStep
from tests.support.tiny import TinyNet
from tests.support.tiny_task import RUNTIME

RATE = 0.1


class Rig:
    """A network with everything around it that a step changes.

    Args:
        settings: fields of TrainConfig.
    """

    def __init__(
        self, network, forward, optimizer=None, ema=0.0, runtime=RUNTIME, parts=(1,), **settings
    ):
        self.network = network.set_train(True)
        self.forward = forward(network)
        self.optimizer = build_optimizer(network, optimizer or OptimizerConfig())
        self.ema = Ema(network, EmaConfig(decay=ema, ramp_steps=10.0)) if ema else None
        self.step = TrainStep(
            self.forward, network, self.optimizer, self.ema, TrainConfig(**settings), runtime, parts
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


def frozen_net() -> TinyNet:
    network = TinyNet()
    freeze(network, ("bn",))
    return network

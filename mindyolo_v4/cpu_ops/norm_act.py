"""Batch normalisation and activation as one operator while training on CPU, in value and gradient exact to float32."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindyolo_v4.cpu_ops.build import BuildError, compiled_library
from mindyolo_v4.cpu_ops.device import on_cpu

_SOURCE = Path(__file__).with_name("norm_act.cc")
OPERATORS = {"mish": ("mish", 0.0), "silu": ("silu", 0.0), "leaky": ("leaky", 0.1), "leaky001": ("leaky", 0.01)}


class FusedUnavailableError(Exception):
    """Tell why networks built now cannot have the fused operator."""


def fused_library() -> Path:
    """Return the library of the fused operators, compiled if need be.

    Raises:
        FusedUnavailableError: the device is not CPU, the mode not graph, or there is no library.
    """
    if not on_cpu():
        raise FusedUnavailableError(f"it is for CPU, not {ms.get_context('device_target')}")
    if ms.get_context("mode") != ms.GRAPH_MODE:
        raise FusedUnavailableError("it is for graph mode")
    try:
        return compiled_library(_SOURCE)
    except BuildError as error:
        raise FusedUnavailableError(str(error)) from error


@cache
def fused_operator(library: Path, name: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return the differentiable operator `name` (mish, silu or leaky) of norm_act.cc.

    (x (B, C, H, W), gamma, beta, moving mean, moving variance (C,), settings (3,): eps, weight of the new statistics,
    negative slope) -> (y (B, C, H, W), mean, 1 / standard deviation, new moving mean, new moving variance (C,)).
    """

    def outputs(x, gamma, beta, moving_mean, moving_variance, settings):
        return x, gamma, gamma, gamma, gamma

    def gradient_outputs(dy, x, gamma, beta, mean, inverse, settings):
        return x, gamma, beta

    backward = ops.Custom(f"{library}:{name}_backward", gradient_outputs, gradient_outputs, "aot")

    def bprop(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
        dx, dgamma, dbeta = backward(dout[0], x, gamma, beta, out[1], out[2], settings)
        return dx, dgamma, dbeta, ops.zeros_like(moving_mean), ops.zeros_like(moving_variance), ops.zeros_like(settings)

    return ops.Custom(f"{library}:{name}_forward", outputs, outputs, "aot", bprop=bprop)


class FusedNormAct(nn.BatchNorm2d):
    """Batch normalisation, then the activation: (B, C, H, W) -> (B, C, H, W).

    Stock operators do it in evaluation, where the statistics are frozen, and for anything but float32.

    Args:
        library: what `fused_library` returns.
        activation: mish, silu, leaky (slope 0.1) or leaky001.
        act: the same activation as a cell of stock operators.
    """

    def __init__(self, channels: int, eps: float, momentum: float, activation: str, act: nn.Cell, library: Path):
        super().__init__(channels, eps=eps, momentum=momentum)
        name, slope = OPERATORS[activation]
        self.operator = fused_operator(library, name)
        self.settings = Tensor(np.asarray([eps, 1.0 - momentum, slope], np.float32))
        self.act = act

    def construct(self, x: Tensor) -> Tensor:
        if self.training and self.use_batch_statistics is None and x.dtype == ms.float32:
            made = self.operator(x, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.settings)
            ops.assign(self.moving_mean, made[3])
            ops.assign(self.moving_variance, made[4])
            return made[0]
        return self.act(super().construct(x))

"""Batch normalisation and activation as one operator while training on CPU, exact to float32."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindyolo_v4.cpu_ops.build import BuildError, compiled_library
from mindyolo_v4.cpu_ops.convolution import convolution_library
from mindyolo_v4.cpu_ops.device import on_cpu
from mindyolo_v4.cpu_ops.in_place import InPlace
from mindyolo_v4.cpu_ops.update import update_library

_SOURCE = Path(__file__).with_name("norm_act.cc")


def fused_library() -> Path:
    """Return the library of the fused operators; compile it and the others on first use.

    Raises BuildError where the device is not CPU, the mode is not graph, or there is no library.
    """
    if not on_cpu():
        raise BuildError(f"it is for CPU, not {ms.get_context('device_target')}")
    if ms.get_context("mode") != ms.GRAPH_MODE:
        raise BuildError("it is for graph mode")
    convolution_library()
    update_library()
    return compiled_library(_SOURCE)


def settings_of(eps: float, momentum: float, leaky_slope: float) -> Tensor:
    """Return eps, weight of the new statistics and negative slope (3,), as the operators read them.

    Args:
        momentum: weight of the OLD running statistic.
    """
    return Tensor(np.asarray([eps, 1.0 - momentum, leaky_slope], np.float32))


def _like_x(x, *_):
    """Return the shape, or the type, of the forward operators' output."""
    return x


def _gradients_like(dy, x, gamma, beta, *_):
    """Return the shapes, or the types, of the backward operators' outputs."""
    return x, gamma, beta


@cache
def fused_operator(library: Path, name: str) -> Callable[..., Tensor]:
    """Return the differentiable operator `name` (mish, silu or leaky) of norm_act.cc.

    x (B, C, H, W), gamma, beta (C,), settings (3,): eps, weight of the new statistics, negative
    slope; moving mean, moving variance (C,) -> y (B, C, H, W). It updates the moving statistics, as
    BatchNorm's own operator does. There is one output only, because several take much longer to
    compile.
    """

    function = f"{library}:{name}_backward"
    backward = ops.Custom(function, _gradients_like, _gradients_like, "aot")
    zeros_like = ops.ZerosLike()

    def bprop(x, gamma, beta, settings, moving_mean, moving_variance, out, dout):
        dx, dgamma, dbeta = backward(dout, x, gamma, beta, settings)
        return (
            dx,
            dgamma,
            dbeta,
            zeros_like(settings),
            zeros_like(moving_mean),
            zeros_like(moving_variance),
        )

    return InPlace(f"{library}:{name}_forward", _like_x, _like_x, read=4, written=2, bprop=bprop)


@cache
def pooled_operator(library: Path, name: str) -> Callable[..., Tensor]:
    """Return the operator `name` with statistics that are pooled with earlier ones.

    It takes what `fused_operator` takes and, before the moving mean, the earlier statistics (3, C):
    mean, variance and number of the micro-batches; behind the moving variance, the parameter (3, C)
    that gets those of the step so far. The two must not share memory.
    """

    source = f"{library}:{name}_pooled"
    backward = ops.Custom(f"{source}_backward", _gradients_like, _gradients_like, "aot")
    zeros_like = ops.ZerosLike()

    def bprop(
        x, gamma, beta, settings, earlier, moving_mean, moving_variance, step_statistics, out, dout
    ):
        dx, dgamma, dbeta = backward(dout, x, gamma, beta, settings, earlier)
        return (
            dx,
            dgamma,
            dbeta,
            zeros_like(settings),
            zeros_like(earlier),
            zeros_like(moving_mean),
            zeros_like(moving_variance),
            zeros_like(step_statistics),
        )

    return InPlace(f"{source}_forward", _like_x, _like_x, read=5, written=3, bprop=bprop)


class FusedNormAct(nn.BatchNorm2d):
    """Batch normalisation, then the activation: (B, C, H, W) -> (B, C, H, W).

    Stock operators compute it in evaluation, with frozen statistics, and unless x is float32.

    Args:
        library: result of `fused_library`.
        activation: mish, silu or leaky.
        leaky_slope: of leaky for negative inputs.
        act: the same activation as a cell of stock operators.
    """

    is_fused = True

    def __init__(
        self,
        channels: int,
        eps: float,
        momentum: float,
        activation: str,
        leaky_slope: float,
        act: nn.Cell,
        library: Path,
    ):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.operator = fused_operator(library, activation)
        self.settings = settings_of(eps, momentum, leaky_slope)
        self.act = act

    def construct(self, x: Tensor) -> Tensor:
        if self.training and self.use_batch_statistics is None and x.dtype == ms.float32:
            return self.operator(
                x, self.gamma, self.beta, self.settings, self.moving_mean, self.moving_variance
            )
        return self.act(super().construct(x))


def is_fused(network: nn.Cell) -> bool:
    """Tell whether `network` was built with the fused operators."""
    return any(getattr(cell, "is_fused", False) for _, cell in network.cells_and_names())

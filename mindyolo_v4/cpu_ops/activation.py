"""Mish and leaky ReLU in forms that are right and fast on the device; gradients included.

MindSpore's own Mish on CPU computes e^x (e^x + 2), which overflows above 44: it returns NaN there.

`nn.LeakyReLU` is the maximum of x and slope x. The gradient of a maximum compares, selects and
divides: on CPU it takes two to three times as long as that of a sum, on Ascend it is about eight
operators.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindyolo_v4.cpu_ops.build import BuildError, compiled_library
from mindyolo_v4.cpu_ops.device import on_cpu

_MISH_SOURCE = Path(__file__).with_name("mish.cc")
_MISH_IS_IDENTITY = 20.0  # above it x tanh(softplus(x)) is x in float32


class SumLeakyReLU(nn.Cell):
    """Compute slope x + (1 - slope) relu(x): the form for the CPU."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope
        self.rise = 1.0 - slope
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.slope * x + self.rise * self.relu(x)


class ProductLeakyReLU(nn.Cell):
    """Compute x max(sign x, slope): the form for other devices.

    The second factor, 1 or the slope, is the derivative. As it is a constant of the gradient, the
    backward pass is one product, and that of the sum four operators.
    """

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def construct(self, x: Tensor) -> Tensor:
        return x * ops.stop_gradient(ops.maximum(ops.sign(x), self.slope))


def leaky_relu(slope: float) -> nn.Cell:
    """Return max(x, slope x), 0 < slope < 1, as a cell for the current device."""
    return SumLeakyReLU(slope) if on_cpu() else ProductLeakyReLU(slope)


@cache
def mish_operator(library: Path) -> Callable[[Tensor], Tensor]:
    """Return the differentiable operator of mish.cc: x -> y, float32, any shape."""

    def same(x):
        return x

    def same_as_last(dy, x):
        return x

    gradient = ops.Custom(f"{library}:mish_gradient", same_as_last, same_as_last, "aot")

    def bprop(x, out, dout):
        return (gradient(dout, x),)

    return ops.Custom(f"{library}:mish", same, same, "aot", bprop=bprop)


class CompiledMish(nn.Cell):
    """Compute Mish by the operator of mish.cc, and what is not float32 by `ClippedMish`."""

    def __init__(self, library: Path):
        super().__init__()
        self.operator = mish_operator(library)
        self.stock = ClippedMish()

    def construct(self, x: Tensor) -> Tensor:
        return self.operator(x) if x.dtype == ms.float32 else self.stock(x)


class ClippedMish(nn.Cell):
    """Compute Mish by stock operators: mish(x - r) + r with r = relu(x - 20). NaN stays NaN.

    It takes four times as long as MindSpore's own operator, and is for where nothing is compiled.
    """

    def __init__(self):
        super().__init__()
        self.mish = nn.Mish()
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        rest = self.relu(x - _MISH_IS_IDENTITY)
        return self.mish(x - rest) + rest


def mish() -> nn.Cell:
    """Return x tanh(softplus(x)) (Misra 2019) as a cell for the current device and mode."""
    if not on_cpu():
        return nn.Mish()
    if ms.get_context("mode") != ms.GRAPH_MODE:
        return ClippedMish()
    try:
        return CompiledMish(compiled_library(_MISH_SOURCE))
    except BuildError:
        return ClippedMish()

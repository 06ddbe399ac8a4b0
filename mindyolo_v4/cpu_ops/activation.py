"""Leaky ReLU in the forms that are differentiated fast; they are equal, gradient included.

`nn.LeakyReLU` is the maximum of x and slope x. The gradient of a maximum compares, selects and
divides: on CPU it takes two to three times as long as that of a sum, on Ascend it is about eight
operators.
"""

from mindspore import Tensor, nn, ops

from mindyolo_v4.cpu_ops.device import on_cpu


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

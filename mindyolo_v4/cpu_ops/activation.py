"""Leaky ReLU in the form that MindSpore's CPU backend differentiates fast."""

from mindspore import Tensor, nn

from mindyolo_v4.cpu_ops.device import on_cpu


class SumLeakyReLU(nn.Cell):
    """Compute slope x + (1 - slope) relu(x), which is leaky ReLU, gradient included.

    On CPU the backward pass of `nn.LeakyReLU` takes two to three times as long as that of this sum.
    """

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope
        self.rise = 1.0 - slope
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.slope * x + self.rise * self.relu(x)


def leaky_relu(slope: float) -> nn.Cell:
    """Return max(x, slope x), 0 < slope < 1, as a cell for the current device."""
    return SumLeakyReLU(slope) if on_cpu() else nn.LeakyReLU(slope)

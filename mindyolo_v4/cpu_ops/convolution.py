"""3x3 convolutions by operators of our own while training on CPU.

MindSpore's CPU backend unfolds the input of a convolution into a matrix, which it multiplies. Where
channels are few, unfolding takes longer than the product.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindyolo_v4.cpu_ops.build import compiled_library

_SOURCE = Path(__file__).with_name("convolution.cc")
_MOST_CHANNELS = 128  # with more, MindSpore's own operators are faster


def convolution_library() -> Path:
    """Return the library of the operator. Raises build.BuildError when there is none."""
    return compiled_library(_SOURCE)


def is_faster(in_channels: int, out_channels: int, kernel: int) -> bool:
    """Tell whether `DirectConv2d` is faster than MindSpore's own convolution."""
    return kernel == 3 and max(in_channels, out_channels) <= _MOST_CHANNELS


@cache
def convolution_operator(library: Path, stride: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the differentiable operator x (B, C, H, W), weight (O, C, K, K) -> y.

    K is odd, x is padded with K // 2 zeros on all sides; y is (B, O, H / stride, W / stride) with
    sizes rounded up. All are float32.
    """

    def output_shape(x, weight):
        height, width = (-(-side // stride) for side in x[2:])
        return [x[0], weight[0], height, width]

    source = f"{library}:convolution"
    input_gradient = ops.Custom(f"{source}_input_gradient", _like_x, _like_x, "aot")
    weights_gradient = ops.Custom(f"{source}_weights_gradient", _like_weight, _like_weight, "aot")

    def bprop(x, weight, out, dout):
        return input_gradient(dout, x, weight), weights_gradient(dout, x, weight)

    return ops.Custom(source, output_shape, lambda x, weight: x, "aot", bprop=bprop)


def _like_x(dy, x, weight):
    """Return the shape, or the type, of the gradient of x."""
    return x


def _like_weight(dy, x, weight):
    """Return the shape, or the type, of the gradient of weight."""
    return weight


class DirectConv2d(nn.Conv2d):
    """Convolution without bias, padded by half of its odd kernel: (B, C, H, W) -> (B, O, H', W').

    MindSpore's own operator computes it in evaluation, and unless x is float32.

    Args:
        stride: 1 or 2.
        library: result of `convolution_library`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, library: Path
    ):
        super().__init__(
            in_channels, out_channels, kernel, stride, pad_mode="pad", padding=kernel // 2
        )
        self.operator = convolution_operator(library, stride)

    def construct(self, x: Tensor) -> Tensor:
        if self.training and x.dtype == ms.float32:
            return self.operator(x, self.weight)
        return super().construct(x)

"""Operations on every pair of two tuples, inside a graph.

A Python loop over parameters inside a branch would nest one function call per iteration, and a
full-size network has hundreds; `HyperMap` lays the operations side by side.
"""

from collections.abc import Iterable

import mindspore as ms
from mindspore import Parameter, nn, ops

from mindyolo_v4.cpu_ops.norm_act import is_fused

add_each = ops.MultitypeFuncGraph("add_each")
average_each = ops.MultitypeFuncGraph("average_each")
clear_each = ops.MultitypeFuncGraph("clear_each")
half_squared_norm_each = ops.MultitypeFuncGraph("half_squared_norm_each")
read_each = ops.MultitypeFuncGraph("read_each")
scale_each = ops.MultitypeFuncGraph("scale_each")

assign_each = ops.Assign()  # a primitive compiles faster than a function of ours

_cast = ops.Cast()
_half_squared_norm = ops.L2Loss()  # a third of the time of square and sum on CPU


@add_each.register("Number", "Tensor", "Tensor")
def _add(share, total, value):
    """Add `share` x `value` to the parameter `total`."""
    return ops.assign(total, total + value * share)


@average_each.register("Tensor", "Tensor", "Tensor")
def _average(decay, average, live):
    """Move `average` to decay x average + (1 - decay) x live."""
    return ops.assign(average, average * decay + live * (1.0 - decay))


@scale_each.register("Tensor", "Tensor")
def _scale(factor, gradient):
    """Return `gradient` times `factor`, in the gradient's own type."""
    return gradient * factor.astype(gradient.dtype)


@clear_each.register("Tensor")
def _clear(total):
    """Set the parameter `total` to 0; a product with 0 would keep NaN."""
    return ops.assign(total, ops.zeros_like(total))


@read_each.register("Tensor")
def _read(total):
    """Return the value of the parameter `total` as it is now."""
    return total.value()


@half_squared_norm_each.register("Tensor")
def _half_square(gradient):
    """Return half the sum of squares, float32."""
    return _half_squared_norm(_cast(gradient, ms.float32))


def updates_at_once(network: nn.Cell, parameters: Iterable[Parameter]) -> bool:
    """Tell whether one operator of `cpu_ops.update` does it instead: fused network, float32."""
    return is_fused(network) and all(parameter.dtype == ms.float32 for parameter in parameters)

"""Updates of many parameters by one operator on CPU, bit-equal to one operator per parameter.

Each operator makes a graph compile longer, most of all those that write to parameters.
"""

from pathlib import Path

import mindspore as ms

from mindyolo_v4.cpu_ops.build import compiled_library
from mindyolo_v4.cpu_ops.in_place import InPlace

_SOURCE = Path(__file__).with_name("update.cc")


def update_library() -> Path:
    """Return the library of these operators. Raises build.BuildError when there is none."""
    # No contraction: products and sums are rounded one by one, as by MindSpore's own operators.
    return compiled_library(_SOURCE, "-ffp-contract=off")


def momentum_operator(count: int) -> InPlace:
    """Return (rate, m, decays d (count,), *gradients g, *weights w, *moments v): SGD's update.

    v <- m v + (d w + g); w <- w - rate v.
    """
    return _operator("momentum", 3 + count, 2 * count)


def average_operator(count: int) -> InPlace:
    """Return (decay, *values v, *averages e): e <- decay e + (1 - decay) v."""
    return _operator("average", 1 + count, count)


def copy_operator(count: int) -> InPlace:
    """Return (*values, *targets): target <- value."""
    return _operator("copy", count, count)


def _operator(name: str, read: int, written: int) -> InPlace:
    function = f"{update_library()}:{name}"
    return InPlace(function, lambda *_: (1,), lambda *_: ms.float32, read, written)

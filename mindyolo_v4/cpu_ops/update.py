"""Updates of many parameters by one operator on CPU, equal to the bit to one operator a parameter.

A graph takes longer to compile with each operator that it has, and those that write to parameters take longest.
"""

from pathlib import Path

import mindspore as ms

from mindyolo_v4.cpu_ops.build import compiled_library
from mindyolo_v4.cpu_ops.in_place import InPlace

_SOURCE = Path(__file__).with_name("update.cc")


def update_library() -> Path:
    """Return the library of these operators, compiled if need be. Raises build.BuildError when there is none."""
    # Products and sums rounded one by one, as MindSpore's own operators round them.
    return compiled_library(_SOURCE, "-ffp-contract=off")


def momentum_operator(count: int) -> InPlace:
    """Return (rate, m, decays d (count,), *gradients, *weights, *moments): v <- m v + (d w + g); w <- w - rate v."""
    return _operator("momentum", 3 + count, 2 * count)


def average_operator(count: int) -> InPlace:
    """Return (decay, *values, *averages): e <- decay e + (1 - decay) v."""
    return _operator("average", 1 + count, count)


def copy_operator(count: int) -> InPlace:
    """Return (*values, *targets): target <- value."""
    return _operator("copy", count, count)


def _operator(name: str, read: int, written: int) -> InPlace:
    return InPlace(
        f"{update_library()}:{name}", lambda *_: (1,), lambda *_: ms.float32, read, written
    )

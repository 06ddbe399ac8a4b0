"""Arrays that a training's loader processes have in common."""

import math
import mmap

import numpy as np
from numpy.typing import DTypeLike, NDArray


def shared_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return zeros that processes forked from now on share with this one; pages that nobody touches cost nothing."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, max(1, size))  # zero bytes cannot be mapped
    return np.frombuffer(memory, np.uint8)[:size].view(dtype).reshape(shape)

"""Small cells, each with one fault that must not be in a graph for Ascend, and one without.

python faulty.py FOLDER records them into a folder; test_recording.py starts it and reads that.
"""

import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops.operations.linalg_ops import Eigh

from mindyolo_v4.tools.ascend_dry_run.recorder import record


class Healthy(nn.Cell):
    """Multiply by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.ones(4), ms.float32), name="weight")

    def construct(self, x: Tensor) -> Tensor:
        return x * self.weight


def cut(x: Tensor) -> Tensor:
    """Return the sum of the first half."""
    return ops.slice(x, (0,), (2,)).sum()


class OnTheAiCpu(nn.Cell):
    """Differentiate ops.slice: its gradient has no kernel on the AI cores."""

    def __init__(self) -> None:
        super().__init__()
        self.gradient = ms.grad(cut)

    def construct(self, x: Tensor) -> Tensor:
        return self.gradient(x)


class InPython(nn.Cell):
    """Call NumPy in the middle of the graph."""

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu(Tensor(np.sin(x.asnumpy())))


class OnTheCpu(nn.Cell):
    """Ask for eigenvalues: MindSpore has no kernel for them on Ascend and falls back to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.eigenvalues = Eigh(False)

    def construct(self, x: Tensor) -> Tensor:
        return self.eigenvalues(x.reshape((2, 2)))


class ReturnsParameter(nn.Cell):
    """Choose between two parameters by a condition that only the device knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Parameter(Tensor(np.ones(4), ms.float32), name="first")
        self.second = Parameter(Tensor(np.zeros(4), ms.float32), name="second")

    def choose(self, x: Tensor) -> Tensor:
        """Return one of the parameters itself."""
        if x.sum() > 0:
            return self.first
        return self.second

    def construct(self, x: Tensor) -> Tensor:
        return x * self.choose(x)


CELLS = {
    "healthy": Healthy,
    "ai_cpu": OnTheAiCpu,
    "python": InPython,
    "cpu": OnTheCpu,
    "parameter": ReturnsParameter,
}


def main(folder: str) -> None:
    """Record each cell at both jit levels."""
    ms.set_device("Ascend")
    ms.set_context(mode=ms.GRAPH_MODE)
    x = Tensor(np.ones(4), ms.float32)
    for level in ("O2", "O0"):
        ms.set_context(jit_config={"jit_level": level})
        for name, cell in CELLS.items():
            record(Path(folder), f"{name}.{level}", level, lambda cell=cell: cell().compile(x))


if __name__ == "__main__":
    main(sys.argv[1])

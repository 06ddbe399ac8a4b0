"""A loss for any cell, so that its gradients can be compared."""

from mindspore import Tensor, nn


class WeightedOutput(nn.Cell):
    """Reduce a cell's output to a scalar with fixed weights, so that it has a gradient."""

    def __init__(self, cell: nn.Cell):
        super().__init__()
        self.cell = cell

    def construct(self, x: Tensor, weights: Tensor) -> Tensor:
        return (self.cell(x) * weights).sum()

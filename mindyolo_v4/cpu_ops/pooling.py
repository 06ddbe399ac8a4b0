"""The max-pools of spatial pyramid pooling, in the form that MindSpore's CPU backend runs fast.

Both forms pad with minus infinity, so that a border never wins.
"""

from mindspore import Tensor, nn

from mindyolo_v4.cpu_ops.device import on_cpu

POOL_SIZES = (13, 9, 5)


class DirectPools(nn.Cell):
    """Pool one map (B, C, H, W) with windows of 13, 9 and 5, stride 1, to three equal shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.pool13 = nn.MaxPool2d(13, stride=1, pad_mode="same")
        self.pool9 = nn.MaxPool2d(9, stride=1, pad_mode="same")
        self.pool5 = nn.MaxPool2d(5, stride=1, pad_mode="same")

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.pool13(x), self.pool9(x), self.pool5(x)


class CascadedPools(nn.Cell):
    """Do the same as `DirectPools` by pooling with a window of 5 once, twice and three times.

    Values are equal; gradients too, wherever the maximum of a window is unique. Among equal maxima
    both forms send the whole gradient to one of them, though not always to the same one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(5, stride=1, pad_mode="same")

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled5 = self.pool(x)
        pooled9 = self.pool(pooled5)
        return self.pool(pooled9), pooled9, pooled5


def pyramid_pools() -> nn.Cell:
    """Return max-pools 13, 9 and 5 (in this order) as one cell for the current device."""
    return CascadedPools() if on_cpu() else DirectPools()

"""Nearest-neighbour upsampling by 2, in the form that the device runs fast; the forms are equal."""

from mindspore import Tensor, nn, ops

from mindyolo_v4.cpu_ops.device import on_cpu


class BroadcastUpsample(nn.Cell):
    """Repeat every pixel 2 x 2 times: (B, C, H, W) -> (B, C, 2H, 2W).

    This is the form for the CPU: a broadcast is as fast there as `ops.interpolate`, and ONNX has
    it. On Ascend it moves the smallest axes of five, and its gradient sums over them.
    """

    def construct(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = batch * channels * height
        repeated = ops.broadcast_to(x.reshape(rows, 1, width, 1), (rows, 2, width, 2))
        return repeated.reshape(batch, channels, 2 * height, 2 * width)


class NearestUpsample(nn.Cell):
    """Do the same as `BroadcastUpsample` by one operator, which is slow on CPU."""

    def construct(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        return ops.ResizeNearestNeighbor((2 * height, 2 * width))(x)


def upsampling() -> nn.Cell:
    """Return the upsampling by 2 as a cell for the current device."""
    return BroadcastUpsample() if on_cpu() else NearestUpsample()

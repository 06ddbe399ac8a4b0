"""Batch normalisation whose statistics while training are those of all devices' images."""

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindyolo_v4.distributed.collectives import MeanOverRanks, joined_ranks
from mindyolo_v4.models.norm_base import NormByStatistics, normalised


def batch_norm(channels: int, eps: float, momentum: float, synchronised: bool) -> nn.BatchNorm2d:
    """Return the batch normalisation of stock operators; every kind has the same parameters.

    Args:
        momentum: weight of the OLD running statistic.
    """
    if not synchronised:
        return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)
    if ms.get_context("device_target") == "Ascend":
        return AscendSyncNorm(channels, eps=eps, momentum=momentum)
    return ReducedNorm(channels, eps, momentum, joined_ranks().size)


class AscendSyncNorm(nn.SyncBatchNorm, nn.BatchNorm2d):
    """MindSpore's own, for Ascend only; as a BatchNorm2d it keeps float32 in mixed precision."""


class ReducedNorm(NormByStatistics):
    """Mean and mean of squares, averaged over the devices: (B, C, H, W) -> (B, C, H, W).

    Every device must hold as many images. The derivative of the sum over devices is the sum of the
    devices' derivatives, so gradients averaged over the devices are those of the whole batch.
    """

    def __init__(self, channels: int, eps: float, momentum: float, devices: int):
        super().__init__(channels, eps, momentum)
        self.devices = devices
        self.mean_over_devices = MeanOverRanks(devices)

    def construct(self, x: Tensor) -> Tensor:
        if not self.training or self.use_batch_statistics is not None:
            return super().construct(x)
        wide = x.astype(ms.float32)
        own = ops.stack((wide.mean((0, 2, 3)), (wide * wide).mean((0, 2, 3))))
        mean, square = ops.unstack(self.mean_over_devices(own))
        variance = ops.relu(square - mean * mean)  # rounding can make a constant channel's negative
        images, _, height, width = x.shape
        count = images * height * width * self.devices
        self.track(
            ops.stop_gradient(mean), ops.stop_gradient(variance) * (count / max(count - 1, 1))
        )
        y = normalised(wide, self.gamma, self.beta, mean, variance, self.eps)
        return y.astype(x.dtype)

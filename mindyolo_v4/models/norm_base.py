"""What batch normalisations with statistics of their own have in common."""

from mindspore import Tensor, nn, ops


class NormByStatistics(nn.BatchNorm2d):
    """Batch normalisation whose subclasses compute the statistics of a training step.

    Names of its parameters, evaluation and frozen statistics are those of the stock operator.

    Args:
        momentum: weight of the OLD running statistic.
    """

    def __init__(self, channels: int, eps: float, momentum: float):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.new_weight = 1.0 - momentum

    def normalise(self, wide: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return gamma (x - mean) / sqrt(variance + eps) + beta of float32 x (B, C, H, W)."""
        scale = self.gamma * ops.rsqrt(variance + self.eps)
        shift = self.beta - mean * scale
        return wide * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)

    def track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics; like the stock operator's, the variance is unbiased."""
        ops.assign(self.moving_mean, self.moving_mean + self.new_weight * (mean - self.moving_mean))
        ops.assign(
            self.moving_variance,
            self.moving_variance + self.new_weight * (variance - self.moving_variance),
        )

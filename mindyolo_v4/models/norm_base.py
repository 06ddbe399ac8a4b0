"""What batch normalisations with statistics of their own have in common."""

from mindspore import Tensor, nn, ops


def normalised(
    x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """Return gamma (x - mean) / sqrt(variance + eps) + beta of float32 x (B, C, H, W)."""
    scale = gamma * ops.rsqrt(variance + eps)
    shift = beta - mean * scale
    return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class NormByStatistics(nn.BatchNorm2d):
    """Batch normalisation whose subclasses compute the statistics of a training step.

    Names of its parameters, evaluation and frozen statistics are those of the stock operator.

    Args:
        momentum: weight of the OLD running statistic.
    """

    def __init__(self, channels: int, eps: float, momentum: float):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.new_weight = 1.0 - momentum

    def track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics; like the stock operator's, the variance is unbiased."""
        ops.assign(self.moving_mean, self.moving_mean + self.new_weight * (mean - self.moving_mean))
        ops.assign(
            self.moving_variance,
            self.moving_variance + self.new_weight * (variance - self.moving_variance),
        )


class PooledNorm(NormByStatistics):
    """Batch normalisation by statistics that pool the micro-batch with earlier ones."""

    def __init__(self, channels: int, eps: float, momentum: float):
        super().__init__(channels, eps, momentum)
        self.by_pooled = NormaliseByPooled(eps)

    def own_statistics(self, wide: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of float32 x (B, C, H, W) per channel, without a gradient."""
        constant = ops.stop_gradient(wide)
        mean = constant.mean((0, 2, 3))
        centred = constant - mean.reshape(1, -1, 1, 1)
        return mean, (centred * centred).mean((0, 2, 3))


class NormaliseByPooled(nn.Cell):
    """Compute y = gamma z + beta, z = (x - m) / sqrt(s + eps), of float32 x (B, C, H, W).

    The pooled m and s contain mean u and variance v of x itself, N values per channel, with the
    weight w, beside constants: dm/du = w, ds/dv = w, ds/du = 2 w (u - m). So

        dx = gamma / sqrt(s + eps) (dy - w / N (sum dy + z sum (dy z)))

    which is the derivative of batch normalisation where w is 1. Autodiff would need five times the
    operators, and as much longer to compile.
    """

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps

    def construct(
        self, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, weight: Tensor
    ) -> Tensor:
        return normalised(x, gamma, beta, mean, variance, self.eps)

    def bprop(self, x, gamma, beta, mean, variance, weight, out, dout):
        """Return the derivatives by x, gamma and beta; statistics and weight are not inputs."""
        root = ops.rsqrt(variance + self.eps)
        centred = x - mean.reshape(1, -1, 1, 1)
        dbeta = dout.sum((0, 2, 3))
        dgamma = (dout * centred).sum((0, 2, 3)) * root
        values = x.size // x.shape[1]
        of_sum = weight / values * dbeta
        of_product = weight / values * root * dgamma
        dx = dout - of_sum.reshape(1, -1, 1, 1) - centred * of_product.reshape(1, -1, 1, 1)
        return (
            dx * (gamma * root).reshape(1, -1, 1, 1),
            dgamma,
            dbeta,
            ops.zeros_like(mean),
            ops.zeros_like(variance),
            ops.zeros_like(weight),
        )

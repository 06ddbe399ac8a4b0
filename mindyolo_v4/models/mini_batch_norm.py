"""Cross mini-batch normalisation (CmBN): statistics over the micro-batches of an optimizer step.

YOLOv4 (Bochkovskiy, Wang, Liao 2020), figure 4; darknet's `cbn=1`. Micro-batch t = 1 .. T of a step
has the mean u_t and the variance v_t of N values per channel. It is normalised by the statistics of
the micro-batches 1 .. t together (Chan, Golub, LeVeque 1979):

    d = u_t - m_(t-1)
    m_t = m_(t-1) + d / t
    s_t = s_(t-1) + (v_t - s_(t-1)) / t + d^2 (t - 1) / t^2
    y = gamma (x - m_t) / sqrt(s_t + eps) + beta

The last micro-batch is thus normalised by mean and variance of the whole batch. The first one, and
the only one where `train.accumulate` is 1, is normalised as by batch normalisation. The weights do
not change inside a step, so that statistics need no compensation. The running statistics follow m_t
and s_t t N / (t N - 1), the unbiased variance, after every micro-batch, as in darknet.

Two things differ from darknet. It divides the sum of squares by N - 1 and the sum by N, so that its
variance is larger by about m_t^2 / N. And its backward pass takes m_t and s_t for statistics of the
micro-batch alone; here, those of the earlier micro-batches are constants, and the gradient is the
derivative.
"""

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindyolo_v4.cpu_ops.norm_act import pooled_operator, settings_of
from mindyolo_v4.models.norm_base import PooledNorm


class CrossMiniBatchNorm(PooledNorm):
    """Normalise by the statistics of the step so far: (B, C, H, W) -> (B, C, H, W).

    `step_statistics` (3, C) holds m, s and t. The train step clears it (`engine.step`).

    Args:
        activation, leaky_slope, act, library: as of `cpu_ops.norm_act.FusedNormAct`. With a
            library, the activation follows, and the fused operator computes both while training in
            float32; without one, nothing follows.
    """

    def __init__(
        self,
        channels: int,
        eps: float,
        momentum: float,
        activation: str = "",
        leaky_slope: float = 0.0,
        act: nn.Cell | None = None,
        library: Path | None = None,
    ):
        super().__init__(channels, eps, momentum)
        nothing = Tensor(np.zeros((3, channels), np.float32))
        self.step_statistics = Parameter(nothing, requires_grad=False)
        self.is_fused = library is not None
        self.act = nn.Identity() if act is None else act
        if library is not None:
            self.operator = pooled_operator(library, activation)
            self.settings = settings_of(eps, momentum, leaky_slope)

    def construct(self, x: Tensor) -> Tensor:
        if not self.training or self.use_batch_statistics is not None:
            return self.act(super().construct(x))
        if self.is_fused and x.dtype == ms.float32:
            earlier = ops.stack(ops.unstack(self.step_statistics))  # a copy
            return self.operator(
                x,
                self.gamma,
                self.beta,
                self.settings,
                earlier,
                self.moving_mean,
                self.moving_variance,
                self.step_statistics,
            )
        return self.act(self.by_formula(x))

    def by_formula(self, x: Tensor) -> Tensor:
        """Normalise by stock operators."""
        wide = x.astype(ms.float32)
        own_mean, own_variance = self.own_statistics(wide)
        earlier_mean, earlier_variance, count = ops.unstack(self.step_statistics)
        count = count + 1.0
        difference = own_mean - earlier_mean
        mean = earlier_mean + difference / count
        variance = (
            earlier_variance
            + (own_variance - earlier_variance) / count
            + difference * difference * (count - 1.0) / (count * count)
        )
        ops.assign(self.step_statistics, ops.stack((mean, variance, count)))

        images, _, height, width = x.shape
        values = count * (images * height * width)
        unbiased = variance * (values / ops.clamp(values - 1.0, 1.0))
        self.track(mean, unbiased)
        y = self.by_pooled(wide, self.gamma, self.beta, mean, variance, 1.0 / count)
        return y.astype(x.dtype)

"""Cross-iteration batch normalisation (CBN): statistics over the last forward passes.

Yao, Cao, Zheng, Huang, Lin 2020 (arXiv 2002.05712), equations 3 to 9. A channel's mean u and mean
of squares q of the last k passes, those of earlier passes as they would be with today's kernel w,
are averaged:

    u_i(w) = u_i + <du_i/dw, w - w_i>,    q_i(w) = q_i + <dq_i/dw, w - w_i>
    m = mean over i of u_i(w),    s = mean over i of max(q_i(w), u_i(w)^2) - m^2
    y = gamma (x - m) / sqrt(s + eps) + beta

As in the paper, only the kernel of the layer's own convolution counts, the statistics of earlier
passes are constants for the gradient, and each micro-batch is a pass. The convolution has no bias,
so that u_i is linear in w and q_i quadratic: <du_i/dw, w_i> = u_i and <dq_i/dw, w_i> = 2 q_i. Old
kernels need not be kept:

    u_i(w) = <du_i/dw, w>,    q_i(w) = <dq_i/dw, w> - q_i

k is 4, as in figure 4 of YOLOv4's paper. The window fills in the first passes; there is no other
burn-in. The running statistics follow m and s, which has no unbiased form, after every pass.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter

from mindyolo_v4.models.norm_base import PooledNorm

WINDOW = 4  # passes, this one included


class CrossIterationNorm(PooledNorm):
    """Normalise the output of a convolution: y (B, C, H, W), its input, its kernel -> (B, C, H, W).

    `run_slopes` (3, C + 1, D) holds dq/dw of each channel and, last, du/dw, which all channels
    share; D = input channels x kernel x kernel. `run_squares` (3, C) holds q, `run_filled` (3,) one
    where there is a pass. The newest pass is first.
    """

    def __init__(self, conv: nn.Conv2d, eps: float, momentum: float):
        channels = conv.out_channels
        super().__init__(channels, eps, momentum)
        kernel = (channels + 1, *conv.weight.shape[1:])
        self.kernel_shape = kernel
        padding = conv.padding
        self.kernel_gradient = Conv2DBackpropFilter(
            channels + 1,
            conv.kernel_size,
            conv.pad_mode,
            padding,
            (padding,) * 4,
            stride=conv.stride,
        )
        slots = WINDOW - 1
        self.run_slopes = _zeros(slots, channels + 1, int(np.prod(kernel[1:])))
        self.run_squares = _zeros(slots, channels)
        self.run_filled = _zeros(slots)

    def construct(self, y: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
        if not self.training or self.use_batch_statistics is not None:
            return super().construct(y)
        wide = y.astype(ms.float32)
        own_mean, own_variance = self.own_statistics(wide)
        own_square = own_variance + own_mean * own_mean
        weights = ops.stop_gradient(kernel.astype(ms.float32)).reshape(y.shape[1], -1)

        means, squares, filled = self.earlier(weights)
        count = 1.0 + filled.sum()
        mean = (own_mean + (means * filled).sum(0)) / count
        square = (own_square + (squares * filled).sum(0)) / count
        variance = ops.relu(square - mean * mean)

        self.remember(ops.stop_gradient(wide), ops.stop_gradient(x), own_square)
        self.track(mean, variance)
        result = self.by_pooled(wide, self.gamma, self.beta, mean, variance, 1.0 / count)
        return result.astype(y.dtype)

    def earlier(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return u_i(w) and max(q_i(w), u_i(w)^2), both (3, C), and which passes count (3, 1)."""
        channels = weights.shape[0]
        # (3, D) x (D, C) -> (3, C)
        means = ops.matmul(self.run_slopes[:, channels], weights.transpose())
        squares = (self.run_slopes[:, :channels] * weights).sum(-1) - self.run_squares
        return means, ops.maximum(squares, means * means), self.run_filled.reshape(-1, 1)

    def remember(self, y: Tensor, x: Tensor, square: Tensor) -> None:
        """Put this pass into the window, unless it is not finite."""
        images, channels, height, width = y.shape
        positions = images * height * width
        # dq/dw = 2 mean(y patch) and du/dw = mean(patch), of the patches of x that w is applied to.
        ones = ops.ones_like(y[:, :1])
        weighted = ops.concat((2.0 * y, ones), axis=1) / positions
        slopes = self.kernel_gradient(weighted, x.astype(ms.float32), self.kernel_shape)
        slopes = slopes.reshape(1, channels + 1, -1)

        is_finite = ops.isfinite(slopes).all()
        moved_slopes = ops.concat((slopes, self.run_slopes[:-1]))
        moved_squares = ops.concat((square.reshape(1, -1), self.run_squares[:-1]))
        moved_filled = ops.concat((ops.ones_like(self.run_filled[:1]), self.run_filled[:-1]))
        ops.assign(self.run_slopes, ops.where(is_finite, moved_slopes, self.run_slopes))
        ops.assign(self.run_squares, ops.where(is_finite, moved_squares, self.run_squares))
        ops.assign(self.run_filled, ops.where(is_finite, moved_filled, self.run_filled))


def _zeros(*shape: int) -> Parameter:
    return Parameter(Tensor(np.zeros(shape, np.float32)), requires_grad=False)

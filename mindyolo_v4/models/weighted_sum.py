"""Weighted residual connections: a block's branch and its input are added with learned shares.

YOLOv4's paper calls them WRC; this is darknet's `[shortcut]` with `weights_type`, as its GPU code
has it (blas_kernels.cu, shortcut_multilayer_kernel). The weights w of the branch (i = 0) and of the
input (i = 1) give the shares

    weighted           s_i = r_i / (e + r_0 + r_1),  r_i = max(w_i, 0.001)
    weighted_channel   s_ic = x_ic / (e + x_0c + x_1c),  x_ic = exp(w_ic - max(w_0c, w_1c))

with e = 0.0001: two numbers per block (`per_feature`, `relu`), or two per channel (`per_channel`,
`softmax`). All w begin at 1, so that both shares begin at one half. darknet's CPU code (blas.c,
shortcut_multilayer_cpu) has max(w_i, 0) instead, and is otherwise equal.

The gradient is the derivative of these formulas. darknet's own backward pass leaves out that a
weight changes the other share too. In place of ds_i / dw_i it has s_i (relu) or s_i (1 - s_i)
(softmax) on a GPU, and 1 on a CPU.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

SUM_EPS = 1e-4
LEAST_WEIGHT = 1e-3


class WeightedSum(nn.Cell):
    """Add a branch and the input of a residual block, both (B, C, H, W), with learned shares.

    `weights` holds those of the branch first, as a `.weights` file does; one axis, so that they do
    not decay with the kernels.
    """

    def __init__(self, channels: int, per_channel: bool):
        super().__init__()
        self.per_channel = per_channel
        count = 2 * channels if per_channel else 2
        self.weights = Parameter(Tensor(np.ones(count, np.float32)))

    def construct(self, branch: Tensor, x: Tensor) -> Tensor:
        of_branch, of_input = ops.unstack(self.shares().astype(x.dtype))
        return branch * of_branch + x * of_input

    def shares(self) -> Tensor:
        """Return the shares (2, C or 1, 1, 1), branch first."""
        weights = self.weights.astype(ms.float32).reshape(2, -1, 1, 1)
        if self.per_channel:
            largest = ops.maximum(weights[0], weights[1])
            positive = ops.exp(weights - largest)
        else:
            positive = ops.clamp(weights, LEAST_WEIGHT)
        return positive / (SUM_EPS + positive[0] + positive[1])

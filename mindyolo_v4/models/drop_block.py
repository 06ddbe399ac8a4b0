"""DropBlock: squares of feature maps are set to zero while training.

Ghiasi, Lin, Le 2018 (arXiv 1810.12890), algorithm 1. In every channel of every image, each position
(H, W) at which a square of b x b cells fits into the map is the start of one with the probability

    gamma = p / b^2 * H W / ((H - b + 1) (W - b + 1))          (equation 1)

The map is zero inside the squares, and elsewhere multiplied by (cells) / (cells that are left),
both counted over the batch. With the forward passes i = 1, 2, .. of the training (one per
micro-batch) and m = min(1, i / ramp_steps), the schedule is one of

    linear    p = prob m,  b = size                            (the paper's)
    darknet   p = prob m,  b = max(1, floor(size m))           (dropout_layer_kernels.cu)

In darknet the ramp takes 0.85 max_batches optimizer steps, here as many x train.accumulate passes.
Only its schedule is followed. Its squares differ: at most one per channel, p / b^2 without the
correction for the border, the rest scaled per image.

The random numbers are a function of seed, layer, device, i and cell: murmur3's finaliser, computed
in the graph from whole numbers of 32 bits. So a resumed training goes on with the masks that it
would have had. MindSpore 2.7.0 rounds the constants of the hash: its graphs have other masks, which
are as random.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindyolo_v4.config.model import DropBlockConfig
from mindyolo_v4.distributed.collectives import joined_ranks

_FACTOR1 = -2048144789  # 0x85EBCA6B
_FACTOR2 = -1028477387  # 0xC2B2AE35
_STRIDE = -1640531527  # 0x9E3779B9: consecutive numbers far apart


class DropBlock(nn.Cell):
    """Drop squares of maps (B, C, H, W) while training; nothing in evaluation.

    `key` tells the layers of a network and the seeds apart (`initialise` sets it). `run_passes`
    counts the forward passes of the training.
    """

    def __init__(self, settings: DropBlockConfig):
        super().__init__()
        self.prob = settings.prob
        self.size = settings.size
        self.ramp_steps = max(settings.ramp_steps, 1)
        self.size_grows = settings.ramp == "darknet"
        self.key = 0
        self.rank = joined_ranks().rank
        self.run_passes = Parameter(Tensor(np.zeros(1, np.int32)), requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        passes = self.run_passes + 1
        ops.assign(self.run_passes, passes)
        mask = ops.stop_gradient(self.mask(passes, x.shape))
        scale = mask.size / ops.clamp(mask.sum(), 1.0)
        return x * (mask * scale).astype(x.dtype)

    def mask(self, passes: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """Return 0 inside the squares of a pass and 1 elsewhere, float32 (B, C, H, W)."""
        images, channels, height, width = shape
        probability, block = self.schedule(passes, min(height, width))
        maps = images * channels
        numbers = self.uniform(passes, maps, width * height).reshape(maps, width, height)
        drawn = numbers < start_probability(probability, block, height, width)
        fits = ops.logical_and(
            ops.arange(width).reshape(-1, 1) <= width - block, ops.arange(height) <= height - block
        )
        starts = ops.logical_and(drawn, fits).astype(ms.float32)

        # How many squares cover each cell: (maps, W, H) x (H, H), then (maps, H, W) x (W, W).
        columns = ops.matmul(starts.reshape(-1, height), covers(block, height))
        columns = columns.reshape(maps, width, height).transpose(0, 2, 1)
        squares = ops.matmul(columns.reshape(-1, width), covers(block, width))
        return (squares < 0.5).astype(ms.float32).reshape(shape)

    def schedule(self, passes: Tensor, largest: int) -> tuple[Tensor, Tensor]:
        """Return p and b, which is at most `largest`, of a pass; both float32 (1,)."""
        ratio = ops.clamp(passes.astype(ms.float32) / self.ramp_steps, max=1.0)
        size = ratio * self.size if self.size_grows else ops.ones_like(ratio) * self.size
        return self.prob * ratio, ops.clamp(ops.floor(size), 1.0, float(largest))

    def uniform(self, passes: Tensor, rows: int, columns: int) -> Tensor:
        """Return random numbers from 0 to 1 for a pass, float32 (rows, columns)."""
        key = mix(passes * _STRIDE + self.key) + self.rank
        of_row = mix(ops.arange(rows).astype(ms.int32) * _STRIDE + mix(key))
        number = mix(of_row.reshape(-1, 1) + ops.arange(columns).astype(ms.int32) * _STRIDE)
        return number.astype(ms.float32) * 2.0**-32 + 0.5


def start_probability(probability: Tensor, block: Tensor, height: int, width: int) -> Tensor:
    """Return gamma."""
    positions = (height - block + 1.0) * (width - block + 1.0)
    return probability / (block * block) * (height * width) / positions


def covers(block: Tensor, length: int) -> Tensor:
    """Return which cells (second axis) the squares that start at each cell cover, float32."""
    distance = ops.arange(length) - ops.arange(length).reshape(-1, 1)
    return ops.logical_and(distance >= 0, distance < block).astype(ms.float32)


def mix(number: Tensor) -> Tensor:
    """Return a hash of whole numbers, int32."""
    number = ops.bitwise_xor(number, shifted(number, 16)) * _FACTOR1
    number = ops.bitwise_xor(number, shifted(number, 13)) * _FACTOR2
    return ops.bitwise_xor(number, shifted(number, 16))


def shifted(number: Tensor, bits: int) -> Tensor:
    """Shift int32 to the right, with zeros from the left; the operator copies the sign."""
    return ops.bitwise_and(ops.bitwise_right_shift(number, bits), 2 ** (32 - bits) - 1)

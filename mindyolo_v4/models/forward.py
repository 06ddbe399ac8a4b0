"""Turns the loader's bytes into network input, inside the graph."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn


class Normalise(nn.Cell):
    """Compute (x - mean) / std: uint8 or float images (B, 3, H, W), RGB in 0..255, -> float32 (B, 3, H, W).

    Args:
        mean, std: of R, G and B on the 0..255 scale.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        # One multiplication and one addition a pixel; the coefficients are rounded once, from float64.
        scale = 1.0 / np.array(std, np.float64).reshape(1, 3, 1, 1)
        offset = -np.array(mean, np.float64).reshape(1, 3, 1, 1) * scale
        self.scale = Tensor(scale, ms.float32)
        self.offset = Tensor(offset, ms.float32)

    def construct(self, images: Tensor) -> Tensor:
        return images.astype(ms.float32) * self.scale + self.offset

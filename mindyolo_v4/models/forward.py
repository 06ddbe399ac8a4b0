"""The compiled forward passes, from the loader's bytes to the loss or to the network's output."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.root import Config


class Normalise(nn.Cell):
    """Compute (x - data.mean) / data.std of uint8 or float images (B, 3, H, W), as float32."""

    def __init__(self, data: DataConfig):
        super().__init__()
        # One multiplication and one addition per pixel; coefficients rounded once, from float64.
        scale = 1.0 / np.array(data.std, np.float64).reshape(1, 3, 1, 1)
        offset = -np.array(data.mean, np.float64).reshape(1, 3, 1, 1) * scale
        self.scale = Tensor(scale, ms.float32)
        self.offset = Tensor(offset, ms.float32)

    def construct(self, images: Tensor) -> Tensor:
        return images.astype(ms.float32) * self.scale + self.offset


class TrainingForward(nn.Cell):
    """Compute the loss of a batch, as the training engine compiles it."""

    def __init__(self, data: DataConfig, network: nn.Cell, loss: nn.Cell):
        super().__init__()
        self.normalise = Normalise(data)
        self.network = network
        self.loss = loss
        self.part_names = loss.part_names

    def construct(self, images: Tensor, *targets: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return (total, parts) of images (B, 3, S, S) uint8 and the loss's targets."""
        return self.loss(self.network(self.normalise(images)), *targets)


class InferenceForward(nn.Cell):
    """Compute the network's output (raw maps or class logits) of images (B, 3, S, S) uint8."""

    def __init__(self, data: DataConfig, network: nn.Cell):
        super().__init__()
        self.normalise = Normalise(data)
        self.network = network
        self.set_train(False)

    def construct(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.network(self.normalise(images))


def inference(config: Config, network: nn.Cell) -> InferenceForward:
    """Return the cell that computes the network's output of the loader's images."""
    return InferenceForward(config.data, network)

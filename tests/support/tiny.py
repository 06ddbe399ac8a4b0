"""A network small enough to differentiate by hand or in a blink, and its loss."""

import numpy as np
from mindspore import Tensor, nn, ops


class TinyNet(nn.Cell):
    """Convolution, batch normalisation, ReLU, 1x1 convolution."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, has_bias=False)
        self.bn = nn.BatchNorm2d(4, momentum=0.9)
        self.head = nn.Conv2d(4, 2, 1, has_bias=True)
        rng = np.random.default_rng(seed)
        for parameter in self.trainable_params():
            values = rng.normal(scale=0.3, size=parameter.shape)
            parameter.set_data(Tensor(values.astype(np.float32)))

    def construct(self, x):
        return self.head(ops.relu(self.bn(self.stem(x))))


class TinyForward(nn.Cell):
    """Squared error plus mean magnitude."""

    part_names = ("loss_box", "loss_obj", "loss_cls")

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, x, target):
        y = self.network(x)
        box = ((y - target) ** 2).mean()
        obj = ops.abs(y).mean()
        cls = (y * 0.125).mean()
        return box + obj + cls, (box, obj, cls)


def tiny_batch(index: int, size: int = 2) -> tuple[Tensor, Tensor]:
    """Return (x (B, 3, 6, 6), target (B, 2, 6, 6)), a function of the index only."""
    rng = np.random.default_rng(index)
    x = rng.normal(size=(size, 3, 6, 6)).astype(np.float32)
    return Tensor(x), Tensor(rng.normal(size=(size, 2, 6, 6)).astype(np.float32))


class Linear(nn.Cell):
    """y = w x with a 4-D w and a bias, so that gradients can be written down."""

    def __init__(self, weight: float, bias: float):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, has_bias=True)
        self.conv.weight.set_data(Tensor(np.full((1, 1, 1, 1), weight, np.float32)))
        self.conv.bias.set_data(Tensor(np.full((1,), bias, np.float32)))

    def construct(self, x):
        return self.conv(x)


class LinearForward(nn.Cell):
    """loss = mean of y: dL/dw = mean x, dL/db = 1."""

    part_names = ("loss_y",)

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, x):
        y = self.network(x).mean()
        return y, (y,)

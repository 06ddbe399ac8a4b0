"""Self-adversarial training (SAT): some steps train on images that the network has altered.

Source: the paper, section 3.3, and darknet's `adversarial_lr` (network_kernels.cu,
`train_network_datum_gpu`). The first pass alters the images instead of the weights, the second one
is an ordinary step with the true targets. Both agree that the altered image hides its objects; only
darknet says how, and `losses/hiding.py` follows it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from mindyolo_v4.cpu_ops.scratchpads import one_thread_scratchpads
from mindyolo_v4.engine.micro_batches import MicroBatch

WHITE = 255.0


class AlteredImages(nn.Cell):
    """Move images x, 0 to 1, against the gradient of a loss L: x <- clip(x - rate dL/dx, 0, 1).

    Pixels whose gradient is not finite stay as they are.

    Args:
        inference: images (B, 3, S, S) -> the network's output.
        hiding: the output -> L, a sum over images.
        loss_scale: factor of L inside, against the underflow of float16.
    """

    def __init__(self, inference: nn.Cell, hiding: nn.Cell, loss_scale: float = 1.0):
        super().__init__(auto_prefix=False)
        self.inference = inference
        self.hiding = hiding
        self.loss_scale = loss_scale
        # Both the images and the derivative's unit are on the scale 0 to 255.
        self.factor = WHITE**2 / loss_scale
        self.gradient = ms.grad(self.scaled_loss, 0)

    def scaled_loss(self, images: Tensor) -> Tensor:
        """Return L times the loss scale."""
        return self.hiding(self.inference(images)) * self.loss_scale

    def construct(self, images: Tensor, rate: Tensor) -> Tensor:
        """Return the altered images, float32 on the scale 0 to 255."""
        images = images.astype(ms.float32)
        gradient = self.gradient(images)
        altered = ops.clamp(images - rate * self.factor * gradient, 0.0, WHITE)
        return ops.select(ops.isfinite(gradient), altered, images)


class SelfAdversary:
    """Gives the micro-batches of each step the images that the network trains on.

    As in darknet, the network is in inference mode while it alters images: the running statistics
    move in the second pass only. Each device alters its own images.

    Args:
        alter: construct(images, rate) -> altered images, with `network` inside.
        rates: of every step of the training; 0 leaves the images as they are.
    """

    def __init__(self, alter: nn.Cell, network: nn.Cell, rates: NDArray[np.float64]):
        self.alter = alter
        self.network = network
        self.rates = rates

    def __call__(self, step: int, micro_batches: Sequence[MicroBatch]) -> list[MicroBatch]:
        """Return the micro-batches of step `step` (from 0) with float32 images, altered or not."""
        rate = self.rates[step]
        if rate == 0.0:
            return [as_float32(batch) for batch in micro_batches]
        with inference_mode(self.network):
            altered = [self.alter(batch[0], Tensor(rate, ms.float32)) for batch in micro_batches]
        return [(images, *batch[1:]) for images, batch in zip(altered, micro_batches, strict=True)]

    def describe(self) -> str:
        """Return what the log says of it."""
        altered = np.count_nonzero(self.rates)
        return f"self-adversarial training: images altered in {altered} of {len(self.rates)} steps"

    def compile(self, batch: MicroBatch) -> None:
        """Compile the graph that alters the images of micro-batches like `batch`."""
        with inference_mode(self.network), one_thread_scratchpads():
            self.alter.compile(batch[0], Tensor(0.0, ms.float32))


def as_float32(batch: MicroBatch) -> MicroBatch:
    """Return a micro-batch with float32 images, as those of the steps that alter them are."""
    return batch[0].astype(ms.float32), *batch[1:]


@contextmanager
def inference_mode(network: nn.Cell) -> Iterator[None]:
    """Put a network that trains into inference mode inside the block."""
    network.set_train(False)
    try:
        yield
    finally:
        network.set_train(True)

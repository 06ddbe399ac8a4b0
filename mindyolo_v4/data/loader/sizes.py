"""At which input size a training step is made, where a training has several: darknet's random=1."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

STEPS_PER_SIZE = 10  # optimizer steps at one size, as in darknet (examples/detector.c)
SIZE_STREAM = 12  # last word of the seed: see data/loader/epoch.py


@dataclass(frozen=True)
class TrainSizes:
    """The input side, pixels, of each micro-batch: a function of (seed, optimizer step) only.

    Every `STEPS_PER_SIZE` steps one of the sizes is drawn, each with equal probability. darknet
    draws a factor of 1/1.4 to 1.4 of the configured size instead, which it rounds to a multiple of
    32, and takes the largest size at the start and in the last 100 iterations.

    Or the sizes grow: each has an equal share of the epochs, in their order (progressive resizing;
    Tan and Le 2021, EfficientNetV2, section 4).
    """

    sizes: tuple[int, ...]
    seed: int
    batches_per_epoch: int  # micro-batches
    accumulate: int  # micro-batches per optimizer step
    growing_epochs: int | None = None  # of the training, if the sizes grow; None: they are drawn

    def of_batch(self, number: int) -> int:
        """Return the side in micro-batch `number`, counted from the start of the training."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        epoch, position = divmod(number, self.batches_per_epoch)
        if self.growing_epochs is not None:
            return self.sizes[epoch * len(self.sizes) // self.growing_epochs]
        # What fills no step at the end of an epoch is not trained.
        step = epoch * (self.batches_per_epoch // self.accumulate) + position // self.accumulate
        return self.sizes[_drawn(self.seed, step // STEPS_PER_SIZE, len(self.sizes))]


@lru_cache(maxsize=2)
def _drawn(seed: int, block: int, count: int) -> int:
    return int(np.random.default_rng((seed, block, 0, SIZE_STREAM)).integers(count))

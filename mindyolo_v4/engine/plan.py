"""How long a training is, and what each of its steps has."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.schedule import learning_rates, rate_factor, sat_rates
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.errors import require

FITTED_SHARE = 0.97  # of train.max_minutes: what a fitted schedule fills


@dataclass(frozen=True)
class Plan:
    """What depends on the number of epochs."""

    epochs: int
    rates: NDArray[np.float64]  # learning rate of each optimizer step
    sat_rates: NDArray[np.float64]  # by how much each step alters its images
    last_step: int
    ended_by: str  # epochs or max_steps


def make_plan(config: Config, steps_per_epoch: int, epochs: int, world_size: int) -> Plan:
    """Plan a training of so many epochs."""
    config = replace(config, train=replace(config.train, epochs=epochs))
    rates = learning_rates(config.optimizer, config.schedule, steps_per_epoch, epochs)
    last_step = min(len(rates), config.train.max_steps or len(rates))
    return Plan(
        epochs,
        rates * rate_factor(config, world_size),
        sat_rates(config, steps_per_epoch),
        last_step,
        "epochs" if last_step == len(rates) else "max_steps",
    )


def fitted_epochs(
    train: TrainConfig, state: TrainingState, epoch_s: float, validation_s: float
) -> int:
    """Return the number of epochs that train.max_minutes has time for, at most train.epochs.

    Args:
        state: at the end of an epoch.
        epoch_s, validation_s: what the steps of an epoch and a validation take.
    """
    assert train.max_minutes is not None
    left_s = FITTED_SHARE * 60.0 * train.max_minutes - state.train_seconds
    further = int(left_s / (epoch_s + validation_s / train.val_interval))
    return min(train.epochs, state.epoch + max(0, further))


def parts_by_size(config: Config) -> dict[int, int]:
    """Return into how many equal parts a micro-batch is cut at each input side of the training.

    It is the smallest number with which images x side^2 of a part are at most
    train.per_batch_size x data.img_size^2. So every step has the same number of images, and the
    memory of the activations stays bounded.

    Raises:
        UserError: a single image is already larger than that.
    """
    count = config.train.per_batch_size
    largest = count * config.data.img_size**2
    parts = {}
    for size in config.train_sizes:
        problem = f"one image of {size} px is more than train.per_batch_size x data.img_size^2"
        expected = f"at most {int(largest**0.5) // 32 * 32}"
        require(size**2 <= largest, config.train.sizes_key, problem, size, expected)
        divisors = (n for n in range(1, count + 1) if count % n == 0)
        parts[size] = next(n for n in divisors if count // n * size**2 <= largest)
    return parts

"""Learning rates as one array, computed before training: warm-up, then decay."""

import numpy as np

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import OptimizerConfig, ScheduleConfig, TrainConfig

SAT_STREAM = 11  # last word of the seed: see data/loader/epoch.py


def images_per_step(train: TrainConfig, world_size: int) -> int:
    """Return the images of one optimizer step on all devices together."""
    return world_size * train.per_batch_size * train.accumulate


def rate_factor(config: Config, world_size: int) -> float:
    """Return the factor of the linear rule for optimizer.lr; 1 unless optimizer.scale_lr is set."""
    if not config.optimizer.scale_lr or config.train.global_batch is None:
        return 1.0
    return images_per_step(config.train, world_size) / config.train.global_batch


def describe_batch(config: Config, world_size: int) -> str:
    """Return what the images per step mean for the learning rate, one line; "" for nothing."""
    train = config.train
    lr = config.optimizer.lr
    images = images_per_step(train, world_size)
    meant = train.global_batch
    if meant is None or images == meant:
        return ""
    product = (
        f"{world_size} x {train.per_batch_size} x {train.accumulate} = {images} images per step"
    )
    scaled = f"{lr:g} x {images} / {meant} = {lr * images / meant:g}"
    if config.optimizer.scale_lr:
        return f"{product}: the peak learning rate is {scaled} (optimizer.scale_lr)"
    return (
        f"hint: {product}, but the recipe's learning rate {lr:g} is for {meant}; "
        f"--optimizer.scale_lr True makes it {scaled}, another train.accumulate changes the images "
        "per step"
    )


def learning_rates(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, steps_per_epoch: int, epochs: int
) -> np.ndarray:
    """Return the learning rate of every optimizer step, float64 (steps_per_epoch * epochs,).

    Warm-up: peak * (s + offset) / w, or that fraction to the power `warmup_power` (darknet's
    burn_in), for steps s < w. Decay: with `joined` cosine, poly and sgdr count from the end of the
    warm-up, so that there is no jump; otherwise from step 0, as darknet, mindyolo and the MindSpore
    model zoo do. Milestones are always absolute.
    """
    total = steps_per_epoch * epochs
    warmup = warmup_length(schedule, steps_per_epoch, epochs)
    step = np.arange(total, dtype=np.float64)
    start = warmup if schedule.joined else 0
    counted = np.maximum(step - start, 0.0)
    if schedule.update == "epoch":
        counted = np.floor(counted / steps_per_epoch) * steps_per_epoch
        step_of_epoch = np.floor(step / steps_per_epoch) * steps_per_epoch
    else:
        step_of_epoch = step
    factor = _decay(schedule, counted, max(total - start, 1))
    if schedule.kind == "step":
        factor = _staircase(schedule, step_of_epoch, steps_per_epoch, total)
    if warmup > 0:
        ramp = (step[:warmup] + schedule.warmup_offset) / warmup
        factor[:warmup] = ramp if schedule.warmup == "linear" else ramp**schedule.warmup_power
    return optimizer.lr * factor


def sat_rates(config: Config, steps_per_epoch: int) -> np.ndarray:
    """Return by how much each optimizer step alters its images, float64; 0 where it does not.

    After the warm-up, train.sat_lr x step / steps with probability train.sat_prob, as in darknet,
    where the probability is 1/2. It is a function of (seed, step).
    """
    train = config.train
    total = steps_per_epoch * train.epochs
    draws = np.random.default_rng((config.seed, 0, 0, SAT_STREAM)).random(total)
    step = np.arange(total, dtype=np.float64)
    is_warm = step >= warmup_length(config.schedule, steps_per_epoch, train.epochs)
    is_altered = is_warm & (draws < train.sat_prob)
    return np.where(is_altered, train.sat_lr * step / total, 0.0)


def warmup_length(schedule: ScheduleConfig, steps_per_epoch: int, epochs: int) -> int:
    """Return the warm-up in steps: the longer of the two lengths, at most half of the training."""
    wanted = max(round(schedule.warmup_epochs * steps_per_epoch), schedule.warmup_steps)
    return min(wanted, steps_per_epoch * epochs // 2)


def _decay(schedule: ScheduleConfig, counted: np.ndarray, length: int) -> np.ndarray:
    """Return the factor of the decay `counted` steps after its start, of `length` steps in all."""
    if schedule.kind == "cosine":
        return _cosine(counted / length, schedule.final_factor)
    if schedule.kind == "poly":
        return (1.0 - counted / length) ** schedule.power
    if schedule.kind == "sgdr":
        return _cosine(
            _cycle_position(counted, schedule.cycle_steps or length, schedule.cycle_mult),
            schedule.final_factor,
        )
    return np.ones_like(counted)


def _cosine(progress: np.ndarray, final: float) -> np.ndarray:
    """Return final + (1 - final) (1 + cos(pi t)) / 2 (Loshchilov & Hutter 2017, equation 5)."""
    return final + 0.5 * (1.0 - final) * (1.0 + np.cos(np.pi * progress))


def _cycle_position(counted: np.ndarray, first_cycle: float, multiple: float) -> np.ndarray:
    """Return how far each step is in its cycle, 0 to 1.

    A boundary belongs to the cycle that ends there, as in darknet.
    """
    last = counted[-1]
    starts = [0.0]
    cycle = float(first_cycle)
    lengths = [cycle]
    while starts[-1] + cycle < last:
        starts.append(starts[-1] + cycle)
        cycle *= multiple
        lengths.append(cycle)
    index = np.maximum(np.searchsorted(starts, counted, side="left") - 1, 0)
    return (counted - np.asarray(starts)[index]) / np.asarray(lengths)[index]


def _staircase(
    schedule: ScheduleConfig, step: np.ndarray, steps_per_epoch: int, total: int
) -> np.ndarray:
    """Return gamma to the number of milestones reached; one acts at the step that it names."""
    unit = {"epoch": steps_per_epoch, "step": 1, "fraction": total}[schedule.milestone_unit]
    milestones = np.asarray(schedule.milestones, np.float64) * unit
    return schedule.gamma ** np.searchsorted(milestones, step, side="right").astype(np.float64)

"""Optimizer, schedule and the training loop."""

from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.errors import require, require_range


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with momentum and coupled weight decay (L2), as in darknet; or AdamW, which learns faster in short runs."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.001  # peak learning rate of the mean-over-global-batch gradient
    scale_lr: bool = False  # lr times (images a step / train.global_batch): the linear rule for another global batch
    momentum: float = 0.9  # adamw: decay of the first moment
    beta2: float = 0.999  # adamw: decay of the second moment
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_on: Literal["conv", "all"] = (
        "conv"  # convolution kernels and dense matrices only, or every parameter
    )

    def __post_init__(self) -> None:
        require_range("optimizer.lr", self.lr, 0.0, open_low=True)
        require_range("optimizer.momentum", self.momentum, 0.0, 0.9999)
        require_range("optimizer.beta2", self.beta2, 0.0, 0.999999, open_low=True)
        require(
            self.kind == "sgd" or not self.nesterov,
            "optimizer.nesterov",
            "belongs to optimizer.kind sgd",
            self.kind,
        )
        require(
            self.kind == "sgd" or self.momentum > 0,
            "optimizer.momentum",
            "must be > 0 for adamw",
            self.momentum,
        )
        require_range("optimizer.weight_decay", self.weight_decay, 0.0)


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate as a function of the optimizer step; the factor multiplies optimizer.lr."""

    kind: Literal["cosine", "step", "poly", "sgdr", "constant"] = "cosine"
    update: Literal["step", "epoch"] = "step"  # the decay moves every step, or once an epoch
    final_factor: float = 0.0  # cosine and sgdr end at this multiple of the peak
    warmup: Literal["linear", "power"] = "linear"
    warmup_epochs: float = 0.0  # length of the warm-up in epochs; at most half of the training
    warmup_steps: int = 0  # the same in steps; the longer of the two holds
    warmup_power: float = 4.0  # exponent of the power warm-up
    warmup_offset: int = 0  # 1: the first step already has 1/warmup_steps of the peak; 0: it has 0
    joined: bool = True  # the decay starts where the warm-up ends; False: it counts from step 0 (the published jump)
    milestones: tuple[
        float, ...
    ] = ()  # step: multiply by `gamma` at these epochs (or steps, see milestone_unit)
    milestone_unit: Literal["epoch", "step", "fraction"] = "epoch"
    gamma: float = 0.1
    power: float = 4.0  # poly: (1 - t)^power
    cycle_steps: int = 0  # sgdr: first cycle; 0 = one cycle over the training
    cycle_mult: float = 2.0  # sgdr: each cycle is this many times the one before

    def __post_init__(self) -> None:
        require_range("schedule.final_factor", self.final_factor, 0.0, 1.0)
        require_range("schedule.warmup_epochs", self.warmup_epochs, 0.0)
        require_range("schedule.warmup_steps", self.warmup_steps, 0)
        require_range("schedule.warmup_power", self.warmup_power, 0.0, open_low=True)
        require_range("schedule.gamma", self.gamma, 0.0, 1.0)
        require_range("schedule.power", self.power, 0.0, open_low=True)
        require_range("schedule.cycle_steps", self.cycle_steps, 0)
        require_range("schedule.cycle_mult", self.cycle_mult, 1.0)
        require(
            list(self.milestones) == sorted(self.milestones),
            "schedule.milestones",
            "not ascending",
            self.milestones,
        )


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the weights; validated and saved as best when on."""

    decay: float = 0.0  # 0 = off
    ramp_steps: float = 2000.0  # decay acts as decay * (1 - exp(-step / ramp_steps))

    def __post_init__(self) -> None:
        require_range("train.ema.decay", self.decay, 0.0, 0.999999)
        require_range("train.ema.ramp_steps", self.ramp_steps, 0.0, open_low=True)


@dataclass(frozen=True)
class TrainConfig:
    """The loop: how long, how large a batch, what is saved and when it stops."""

    epochs: int = 300
    per_batch_size: int = 16  # images a device and micro-batch
    accumulate: int = 1  # micro-batches averaged into one optimizer step
    global_batch: int | None = (
        None  # images a step that the recipe's learning rate is for, on all devices together
    )
    max_steps: int | None = (
        None  # stop after this many optimizer steps; the schedule still spans `epochs`
    )
    max_minutes: float | None = (
        None  # stop at the first epoch end after this many minutes of training
    )
    clip_norm: float | None = None  # largest global gradient norm
    loss_scale: Literal["auto", "none", "static", "dynamic"] = (
        "auto"  # auto: dynamic in mixed precision, else none
    )
    loss_scale_value: float = 1024.0  # static factor, or where the dynamic one starts
    freeze: tuple[
        str, ...
    ] = ()  # parameters whose names start so are not trained, their BN statistics fixed
    max_nonfinite: int = 20  # stop with status 3 after this many non-finite steps in a row
    val_interval: int = 1  # validate every so many epochs, and after the last
    checkpoint_interval: int = 1  # write epoch_NNNN.ckpt every so many epochs
    checkpoint_steps: int | None = (
        None  # write step_NNNNNNNN.ckpt and last.ckpt every so many optimizer steps
    )
    keep_checkpoints: int = 3  # newest epoch_NNNN.ckpt files kept, and as many step_NNNNNNNN.ckpt
    log_interval: int = 1  # write a row of steps.csv every so many steps
    hang_seconds: float = (
        60.0  # several devices: end the job after so long without progress on any of them
    )
    pause_seconds: float = 1800.0  # the same while compiling, saving or computing metrics
    ema: EmaConfig = field(default_factory=EmaConfig)

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "per_batch_size",
            "accumulate",
            "max_nonfinite",
            "val_interval",
            "checkpoint_interval",
            "keep_checkpoints",
            "log_interval",
        ):
            require_range(f"train.{name}", getattr(self, name), 1)
        for name in ("max_steps", "checkpoint_steps", "global_batch"):
            if getattr(self, name) is not None:
                require_range(f"train.{name}", getattr(self, name), 1)
        for name in ("hang_seconds", "pause_seconds"):
            require_range(f"train.{name}", getattr(self, name), 5.0)
        if self.max_minutes is not None:
            require_range("train.max_minutes", self.max_minutes, 0.0, open_low=True)
        if self.clip_norm is not None:
            require_range("train.clip_norm", self.clip_norm, 0.0, open_low=True)
        require_range("train.loss_scale_value", self.loss_scale_value, 1.0)

"""Optimizer, schedule and the training loop."""

from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.errors import require, require_ranges

MOST_EPOCHS = 1_000_000
MOST_SIZES = 16  # of random_sizes: a graph is compiled for each


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with momentum and coupled weight decay (L2), as in darknet; or AdamW for short runs."""

    kind: Literal["sgd", "adamw"] = "sgd"  # how gradients change the weights
    lr: float = 0.001  # peak learning rate of the mean-over-global-batch gradient
    scale_lr: bool = False  # multiply lr by (images per step / train.global_batch)
    momentum: float = 0.9  # momentum of sgd; adamw: decay of the first moment
    beta2: float = 0.999  # decay of the second moment of adamw
    nesterov: bool = False  # Nesterov's momentum, for sgd
    weight_decay: float = 5e-4  # coefficient of the L2 term; of the weights themselves with adamw
    # What decays. conv: convolution kernels and dense matrices only; all: every parameter.
    decay_on: Literal["conv", "all"] = "conv"

    def __post_init__(self) -> None:
        section = "optimizer"
        require_ranges(self, section, ("lr",), 0.0, 1e6, open_low=True)
        require_ranges(self, section, ("momentum",), 0.0, 0.9999)
        require_ranges(self, section, ("beta2",), 0.0, 0.999999, open_low=True)
        require_ranges(self, section, ("weight_decay",), 0.0, 1e6)
        if self.kind == "adamw":
            nesterov_problem = "belongs to optimizer.kind sgd"
            require(not self.nesterov, "optimizer.nesterov", nesterov_problem, self.kind)
        if self.kind == "adamw" or self.nesterov:
            momentum_problem = "must be > 0 for adamw and for optimizer.nesterov"
            require(self.momentum > 0, "optimizer.momentum", momentum_problem, self.momentum)


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate as a function of the optimizer step; the factor multiplies optimizer.lr."""

    # Course of the rate after the warm-up (docs/training.md has the formulas).
    kind: Literal["cosine", "step", "poly", "sgdr", "constant"] = "cosine"
    update: Literal["step", "epoch"] = "step"  # the decay moves every step, or once per epoch
    final_factor: float = 0.0  # cosine and sgdr end at this multiple of the peak
    warmup: Literal["linear", "power"] = "linear"  # how the rate rises to the peak
    warmup_epochs: float = 0.0  # length of the warm-up in epochs; at most half of the training
    warmup_steps: int = 0  # the same in steps; the longer of the two counts
    warmup_power: float = 4.0  # exponent of the power warm-up
    warmup_offset: int = 0  # rate of the first step: 0 = zero, 1 = 1/warmup_steps of the peak
    # The decay starts where the warm-up ends; False: it counts from step 0 (the published jump).
    joined: bool = True
    # Points at which kind: step multiplies by `gamma`, in the unit that milestone_unit names.
    milestones: tuple[float, ...] = ()
    # Unit of `milestones`; fraction: of the training.
    milestone_unit: Literal["epoch", "step", "fraction"] = "epoch"
    gamma: float = 0.1  # factor at each of the milestones
    power: float = 4.0  # exponent of kind: poly, (1 - t)^power
    cycle_steps: int = 0  # steps of the first cycle of sgdr; 0 = one cycle over the training
    cycle_mult: float = 2.0  # factor by which each cycle of sgdr is longer than the one before

    def __post_init__(self) -> None:
        section = "schedule"
        require_ranges(self, section, ("final_factor", "gamma"), 0.0, 1.0)
        require_ranges(self, section, ("warmup_epochs",), 0, MOST_EPOCHS)
        require_ranges(self, section, ("warmup_steps", "cycle_steps", "warmup_offset"), 0, 1e9)
        require_ranges(self, section, ("warmup_power", "power"), 0.0, 1000.0, open_low=True)
        require_ranges(self, section, ("cycle_mult",), 1.0, 1e6)
        ascending = list(self.milestones) == sorted(self.milestones)
        require(ascending, "schedule.milestones", "not in ascending order", self.milestones)


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the weights; when on, it is validated and saved as best."""

    decay: float = 0.0  # share of the old average that a step keeps; 0 = off
    # Steps of the start: decay acts as decay * (1 - exp(-step / ramp_steps)).
    ramp_steps: float = 2000.0

    def __post_init__(self) -> None:
        require_ranges(self, "train.ema", ("decay",), 0.0, 0.999999)
        require_ranges(self, "train.ema", ("ramp_steps",), 0.0, open_low=True)


@dataclass(frozen=True)
class TrainConfig:
    """The loop: how long, how large a batch, what is saved and when it stops."""

    epochs: int = 300  # passes over the training set; the schedule spans them
    per_batch_size: int = 16  # images per device and micro-batch
    accumulate: int = 1  # micro-batches averaged into one optimizer step
    # Images per step, over all devices, that the recipe's learning rate is for.
    global_batch: int | None = None
    max_steps: int | None = None  # stop after these optimizer steps; the schedule spans `epochs`
    max_minutes: float | None = None  # stop at the first epoch end after so much training
    # Choose the number of epochs, at most `epochs`, by the time that the first one takes, so that
    # the schedule ends within max_minutes.
    fit_schedule: bool = False
    # Stop after so many validations in a row without a better AP (classifiers: acc1). Null: off.
    patience: int | None = None
    clip_norm: float | None = None  # largest global gradient norm
    # Scaling of the loss against underflow; auto: dynamic in mixed precision, else none.
    loss_scale: Literal["auto", "none", "static", "dynamic"] = "auto"
    loss_scale_value: float = 1024.0  # static factor, or where the dynamic one starts
    # Parameters whose names start with one of these are not trained; their BN statistics are fixed.
    freeze: tuple[str, ...] = ()
    max_nonfinite: int = 20  # stop with status 3 after this many non-finite steps in a row
    val_interval: int = 1  # epochs between validations; the last epoch is always validated
    checkpoint_interval: int = 1  # epochs between files epoch_NNNN.ckpt
    # Optimizer steps between files step_NNNNNNNN.ckpt; last.ckpt is written with each of them.
    checkpoint_steps: int | None = None
    keep_checkpoints: int = 3  # newest epoch_NNNN.ckpt files kept, and as many step_NNNNNNNN.ckpt
    log_interval: int = 1  # steps between rows of steps.csv
    # First steps whose images are drawn as train_batch_N.jpg, and pictures val_N.jpg of each
    # validation. 0: neither these nor labels.png.
    pictures: int = 3
    # Compute the loss of the validation split too, for metrics.csv and results.png.
    val_loss: bool = True
    # Several devices: end the job after so long without progress on any of them.
    hang_seconds: float = 60.0
    pause_seconds: float = 1800.0  # the same while compiling, saving or computing metrics
    # First and last of the optimizer steps, from 1, of which MindSpore's profiler writes a trace.
    profile_steps: tuple[int, int] | None = None
    # Top-level parts of the network (backbone, neck, head) whose activations are computed again for
    # the gradient instead of kept: less memory, more time.
    recompute: tuple[str, ...] = ()
    deterministic: bool = False  # operators that give the same bits in every run: slower on Ascend
    # Probability of a step with self-adversarial training (SAT): the images are altered so that the
    # network sees no objects in them, then it trains on them with the true boxes. Detectors only.
    sat_prob: float = 0.0
    # SAT: the image, 0 to 1, moves by this x progress of the training x gradient; 1 is the advice
    # of darknet's author for its adversarial_lr.
    sat_lr: float = 1.0
    # Input sides, pixels, of a detector multiples of 32; every 10 steps train at one of them, drawn
    # at random. Larger ones than data.img_size split a micro-batch. Null: data.img_size only.
    random_sizes: tuple[int, ...] | None = None
    # In place of random_sizes: input sides, pixels, in ascending order. Each is used for an equal
    # share of the epochs.
    growing_sizes: tuple[int, ...] | None = None
    ema: EmaConfig = field(default_factory=EmaConfig)

    def __post_init__(self) -> None:
        section = "train"
        images = ("per_batch_size", "accumulate", "global_batch")
        require_ranges(self, section, ("epochs",), 1, MOST_EPOCHS)
        intervals = ("val_interval", "checkpoint_interval", "checkpoint_steps", "log_interval")
        limits = ("max_steps", "patience", "max_nonfinite", "keep_checkpoints", "loss_scale_value")
        require_ranges(self, section, images, 1, 2**20)
        require_ranges(self, section, (*intervals, *limits), 1)
        require_ranges(self, section, ("pictures",), 0, 1000)
        require_ranges(self, section, ("hang_seconds", "pause_seconds"), 5.0, 1e8)
        require_ranges(self, section, ("max_minutes", "clip_norm"), 0.0, open_low=True)
        is_limited = not self.fit_schedule or self.max_minutes is not None
        require(is_limited, "train.fit_schedule", "needs train.max_minutes")
        require_ranges(self, section, ("sat_prob",), 0.0, 1.0)
        require_ranges(self, section, ("sat_lr",), 0.0, 1e6, open_low=True)
        for key in ("random_sizes", "growing_sizes"):
            _check_sizes(f"train.{key}", getattr(self, key))
        growing = self.growing_sizes
        is_alone = growing is None or self.random_sizes is None
        require(is_alone, "train.growing_sizes", "excludes train.random_sizes", growing, "null")
        ascends = growing is None or list(growing) == sorted(growing)
        require(ascends, "train.growing_sizes", "not in ascending order", growing)
        problem = "cannot tell from the first epoch how long those of larger sizes take"
        is_fit = growing is None or not self.fit_schedule
        require(is_fit, "train.fit_schedule", problem, True, "train.growing_sizes: null")
        first, last = self.profile_steps or (1, 1)
        expected = "[first, last], counted from 1"
        is_range = 1 <= first <= last
        require(is_range, "train.profile_steps", "no range of steps", self.profile_steps, expected)

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """The input sides of the training, None if data.img_size is the only one."""
        return self.random_sizes or self.growing_sizes

    @property
    def sizes_key(self) -> str:
        """The key that `sizes` come from."""
        return "train.random_sizes" if self.random_sizes else "train.growing_sizes"

    @property
    def growing_epochs(self) -> int | None:
        """The number of epochs if the input side grows with them, else None."""
        return None if self.growing_sizes is None else self.epochs


def _check_sizes(key: str, sizes: tuple[int, ...] | None) -> None:
    if sizes is None:
        return
    is_count = 1 <= len(sizes) <= MOST_SIZES
    require(is_count, key, "needs a list of sizes", sizes, f"1 to {MOST_SIZES} sizes")
    are_valid = all(32 <= size <= 8192 for size in sizes)
    require(are_valid, key, "has a size that no network takes", sizes, "32 to 8192")
    require(len(set(sizes)) == len(sizes), key, "names a size twice", sizes)

"""Continuing a training from a checkpoint, on the same or on another number of devices."""

from dataclasses import replace

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.recipe import RUN_CONFIG, build_record, load_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.plan import make_plan
from mindyolo_v4.engine.schedule import images_per_step
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.runtime.run_folder import require_run_folder


def with_recorded_anchors(
    config: Config, resumed: Checkpoint | None, goes_on: bool, default_name: str
) -> Config:
    """Replace the anchors `auto` by those that the run to continue has fitted.

    Args:
        resumed: its checkpoint, where the user named one.
        goes_on: in the run folder of the configuration, or the newest one of `default_name`.
    """
    model = config.model
    if model.anchors_wh_px != "auto":
        return config
    if resumed is not None:
        model = resumed.card.model
    elif goes_on:
        path = require_run_folder(config.save_dir, default_name) / RUN_CONFIG
        # without the file there is no run yet
        model = load_config(path).model if path.is_file() else model
    return replace(config, model=replace(config.model, anchors_wh_px=model.anchors_wh_px))


def saved_state(checkpoint: Checkpoint, best_metric: str) -> TrainingState:
    """Return the state that a checkpoint carries. Raises UserError for none and a damaged one."""
    key = f"{checkpoint.path}: card.training"
    if "training" not in checkpoint.tree:
        problem = "carries no training to resume; give it as --weight instead"
        raise UserError(checkpoint.path, problem)
    tree = checkpoint.tree["training"]
    require(isinstance(tree, dict), key, "is damaged", tree, "a mapping")
    state: TrainingState = build_record(TrainingState, tree, f"{key}.")
    counts = (state.step, state.steps_per_epoch - 1, state.world_size - 1)
    require(min(counts) >= 0, key, "is damaged", tree, "counts of steps and devices")
    for name in ("epoch", "step", best_metric) if state.best is not None else ():
        value = (state.best or {}).get(name)
        require(isinstance(value, int | float), f"{key}.best.{name}", "is damaged", value)
    return state


def continued_state(
    checkpoint: Checkpoint, saved: TrainingState, own: TrainingState, settings: TrainConfig
) -> tuple[TrainingState, list[str]]:
    """Return the saved state as this training counts, and what to log.

    Args:
        own: the state of this training before its first step, with its devices and epoch length.

    Raises:
        UserError: epochs have another length, that is, other data or another batch.
    """
    lines: list[str] = []
    if saved.world_size != own.world_size:
        saved = _for_own_devices(checkpoint, saved, own, settings, lines)
    if saved.steps_per_epoch != own.steps_per_epoch:
        problem = f"{checkpoint.path} has another steps_per_epoch: other data or batch"
        raise UserError("--resume", problem, own.steps_per_epoch, saved.steps_per_epoch)
    return saved, lines


def follow_epochs(checkpoint: Checkpoint, state: TrainingState, config: Config) -> list[str]:
    """Let another train.epochs than the checkpoint's change the schedule; return what to log.

    Args:
        state: as this training counts. Its number of fitted epochs goes if train.fit_schedule is
            off now.

    Raises:
        UserError: so many epochs are done already, or train.fit_schedule has set the number.
    """
    train = config.train
    held = checkpoint.card.config.get("train", {}).get("epochs", train.epochs)
    if train.fit_schedule and state.epochs and train.epochs != held:
        problem = f"train.fit_schedule has set the number: {state.epochs} of at most {held}"
        expected = f"{held}, or --train.fit_schedule False"
        raise UserError("train.epochs", problem, train.epochs, expected)

    before = state.epochs or held
    if not train.fit_schedule:
        state.epochs = 0
        state.fitted_minutes = 0.0
    epochs = state.epochs or train.epochs
    if epochs == before:
        return []
    if epochs * state.steps_per_epoch <= state.step:
        problem = f"{checkpoint.path} has reached epoch {state.epoch}"
        raise UserError("train.epochs", problem, epochs, f"more, or {before} as before")

    rates = []
    for count in (before, epochs):
        plan = make_plan(config, state.steps_per_epoch, count, state.world_size)
        rates.append(plan.rates[min(state.step, len(plan.rates) - 1)])
    return [
        f"train.epochs {before} -> {epochs}: the schedule spans {epochs} epochs from here on; the "
        f"learning rate goes on at {rates[1]:g} instead of {rates[0]:g}"
    ]


def follow_limit(checkpoint: Checkpoint, state: TrainingState, train: TrainConfig) -> list[str]:
    """Fit a fitted schedule again where train.max_minutes is another one; return what to log.

    Until the end of an epoch, which gives the time of the others, the schedule is as before. Where
    that one is over, it gets one epoch more.

    Raises:
        UserError: the training has taken so long already.
    """
    if not train.fit_schedule or not state.epochs:
        return []
    fitted = state.fitted_minutes
    steps_left = train.epochs * state.steps_per_epoch - state.step
    if train.max_minutes == fitted or steps_left <= 0:
        return []
    minutes = state.train_seconds / 60
    if train.max_minutes <= minutes:
        problem = f"{checkpoint.path} has been trained for {minutes:.1f} minutes"
        raise UserError("train.max_minutes", problem, train.max_minutes, f"more, or {fitted:g}")

    if state.step >= state.epochs * state.steps_per_epoch:
        state.epochs = state.epoch + 1
    return [
        f"train.max_minutes {fitted:g} -> {train.max_minutes:g}: the schedule of {state.epochs} "
        "epochs is fitted again at the end of an epoch"
    ]


def _for_own_devices(
    checkpoint: Checkpoint,
    saved: TrainingState,
    own: TrainingState,
    settings: TrainConfig,
    lines: list[str],
) -> TrainingState:
    """Return the state of another number of devices with its position in our steps.

    A step of any number of devices takes the next images of the epoch's one order, so the images
    done give the step. What does not fill one of our steps is done again.
    """
    tree = checkpoint.card.config.get("train", {})
    key = f"{checkpoint.path}: card.config.train."
    saved_images = images_per_step(build_record(TrainConfig, tree, key), saved.world_size)
    own_images = images_per_step(settings, own.world_size)

    saved_length = saved.steps_per_epoch * saved_images
    own_length = own.steps_per_epoch * own_images
    if abs(saved_length - own_length) >= max(saved_images, own_images):
        devices = f"besides its {saved.world_size} devices"
        problem = f"{checkpoint.path} has epochs of another length, {devices}: other data"
        raise UserError("--resume", problem, own_length, saved_length)

    epochs, steps_inside = divmod(saved.step, saved.steps_per_epoch)
    images_inside = steps_inside * saved_images
    own_steps_inside = min(images_inside // own_images, own.steps_per_epoch)
    # What is left of the epoch may fill no step of ours; then the epoch is over.
    is_over = 0 < own_steps_inside == own.steps_per_epoch
    step = epochs * own.steps_per_epoch + own_steps_inside
    repeated = 0 if is_over else images_inside - own_steps_inside * own_images
    lines.append(
        f"resumed on {own.world_size} device(s) from {saved.world_size}: step {saved.step} of "
        f"{saved_images} images becomes step {step} of {own_images}; {repeated} images are repeated"
    )
    if is_over:
        saved = replace(saved, validation_due=True, epoch_loss_sum=0.0, epoch_finite_steps=0)
    return replace(saved, step=step, steps_per_epoch=own.steps_per_epoch, world_size=own.world_size)

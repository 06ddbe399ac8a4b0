"""Continuing a training from a checkpoint, on the same or on another number of devices."""

import logging
from dataclasses import fields, replace
from typing import Any

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.schedule import images_per_step
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.errors import UserError

logger = logging.getLogger(__name__)


def saved_state(checkpoint: Checkpoint) -> TrainingState:
    """Return the state that a checkpoint carries. Raises UserError where it carries none."""
    if "training" not in checkpoint.tree:
        problem = "carries no training to resume; give it as --weight instead"
        raise UserError(checkpoint.path, problem)
    saved = checkpoint.tree["training"]
    names = [field.name for field in fields(TrainingState)]
    return TrainingState(**{name: saved[name] for name in names if name in saved})


def continued_state(
    checkpoint: Checkpoint, saved: TrainingState, own: TrainingState, settings: TrainConfig
) -> TrainingState:
    """Return the saved state as this training counts.

    Args:
        own: the state of this training before its first step, with its devices and epoch length.

    Raises:
        UserError: epochs have another length, that is, other data or another batch.
    """
    if saved.world_size != own.world_size:
        saved = _for_own_devices(checkpoint, saved, own, settings)
    if saved.steps_per_epoch != own.steps_per_epoch:
        problem = f"{checkpoint.path} has another steps_per_epoch: other data or batch"
        raise UserError("--resume", problem, own.steps_per_epoch, saved.steps_per_epoch)
    return saved


def _for_own_devices(
    checkpoint: Checkpoint, saved: TrainingState, own: TrainingState, settings: TrainConfig
) -> TrainingState:
    """Return the state of another number of devices with its position in our steps.

    A step of any number of devices takes the next images of the epoch's one order, so the images
    done give the step. What does not fill one of our steps is done again.
    """
    saved_settings: dict[str, Any] = checkpoint.tree["config"]["train"]
    saved_images = (
        saved_settings["per_batch_size"] * saved_settings["accumulate"] * saved.world_size
    )
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
    logger.warning(
        "resumed on %d device(s) from %d: step %d of %d images becomes step %d of %d; "
        "%d images are repeated",
        own.world_size,
        saved.world_size,
        saved.step,
        saved_images,
        step,
        own_images,
        0 if is_over else images_inside - own_steps_inside * own_images,
    )
    if is_over:
        saved = replace(saved, validation_due=True, epoch_loss_sum=0.0, epoch_finite_steps=0)
    return replace(saved, step=step, steps_per_epoch=own.steps_per_epoch, world_size=own.world_size)

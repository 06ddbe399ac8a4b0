"""What a train step does besides the optimizer's own rule."""

from dataclasses import dataclass

from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.runtime.device import Runtime

SCALE_WINDOW = 2000  # finite steps in a row before the dynamic loss scale doubles


@dataclass(frozen=True)
class StepSettings:
    """What the step does besides the optimizer's own rule."""

    accumulate: int = 1  # micro-batches averaged into one step
    parts: tuple[int, ...] = (1,)  # into which a micro-batch may be cut; each is averaged as well
    clip_norm: float | None = None  # largest global gradient norm
    loss_scale: str = "none"  # none, static or dynamic
    loss_scale_value: float = 1024.0
    scale_window: int = SCALE_WINDOW
    world_size: int = 1
    overflow_saturates: bool = False  # an overflow leaves no infinity in the gradients


def step_settings(settings: TrainConfig, runtime: Runtime, parts: tuple[int, ...]) -> StepSettings:
    """Return the settings of a training on this device.

    Args:
        parts: into how many a micro-batch is cut, for each input size.
    """
    scale = settings.loss_scale
    if scale == "auto":
        is_float16 = runtime.amp_level != "O0" and runtime.amp_dtype == "float16"
        scale = "dynamic" if is_float16 else "none"
    return StepSettings(
        settings.accumulate,
        parts,
        settings.clip_norm,
        scale,
        settings.loss_scale_value,
        world_size=runtime.ranks.size,
        overflow_saturates=runtime.overflow_saturates,
    )

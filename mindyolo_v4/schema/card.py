"""The card that every checkpoint carries: what its network is and what it wants to be fed."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mindyolo_v4.schema.model import ModelConfig


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes network input, as the weights were trained."""

    resize: Literal["letterbox", "stretch"] = "letterbox"
    pad_value: int = 114  # grey level of the letterbox border, 0 to 255
    color: Literal["rgb"] = "rgb"  # channel order
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # subtracted, 0..255 scale
    std: tuple[float, ...] = (255.0, 255.0, 255.0)  # divides, 0..255 scale


@dataclass(frozen=True)
class Card:
    """Everything that a checkpoint's weights need to be used without a configuration file."""

    task: Literal["detect", "classify"] = "detect"
    model: ModelConfig = field(default_factory=ModelConfig)
    class_names: tuple[str, ...] = ()  # in class order
    img_size: int = 608  # pixels
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    source: str = ""  # where the weights come from
    config: dict[str, Any] = field(default_factory=dict)  # the resolved configuration of the run; empty if converted

    @property
    def architecture(self) -> str:
        """Return the network's name, as `model.architecture` has it."""
        return self.model.architecture

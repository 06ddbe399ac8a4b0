"""The card that every checkpoint carries: what its network is and what it wants to be fed."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mindyolo_v4.config.model import ModelConfig


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes network input, as the weights were trained."""

    # crop: short side scaled, centre cut out; stretch_crop: both sides scaled, as the MindSpore model zoo does
    resize: Literal["letterbox", "stretch", "crop", "stretch_crop"] = "letterbox"
    pad_value: int = 114  # grey level of the letterbox border, 0 to 255
    color: Literal["rgb"] = "rgb"  # channel order
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # subtracted, 0..255 scale
    std: tuple[float, ...] = (255.0, 255.0, 255.0)  # divides, 0..255 scale
    crop_fraction: float = (
        1.0  # crop, stretch_crop: side of the cut by the scaled side (0.875 = 224 of 256)
    )


@dataclass(frozen=True)
class Card:
    """Everything that a checkpoint's weights need to be used without a configuration file."""

    task: Literal["detect", "classify"] = "detect"
    model: ModelConfig = field(default_factory=ModelConfig)
    class_names: tuple[str, ...] = ()  # in class order
    img_size: int = 608  # pixels
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    source: str = ""  # where the weights come from
    config: dict[str, Any] = field(
        default_factory=dict
    )  # the resolved configuration of the run; empty if converted
    source_format: str = ""  # converted weights: the format they came in
    source_sha256: str = ""  # converted weights: hexadecimal digest of the file they came in
    origin: dict[str, Any] = field(
        default_factory=dict
    )  # what only an export back to that format needs

    @property
    def architecture(self) -> str:
        """Return the network's name, as `model.architecture` has it."""
        return self.model.architecture

"""The card of a checkpoint: what its network is, and how its input is prepared."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import Tree, build_record, record_to_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError, require


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes network input, as the weights were trained."""

    # crop: the short side is scaled, the centre cut out; stretch_crop: both sides are scaled
    resize: Literal["letterbox", "stretch", "crop", "stretch_crop"] = "letterbox"
    pad_value: int = 114  # grey level of the letterbox border, 0 to 255
    color: Literal["rgb"] = "rgb"  # channel order
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # subtracted, 0..255 scale
    std: tuple[float, ...] = (255.0, 255.0, 255.0)  # divides, 0..255 scale
    crop_fraction: float = 1.0  # of the scaled side that is kept (0.875 = 224 of 256)


@dataclass(frozen=True)
class Card:
    """Everything that a checkpoint's weights need to be used without a configuration file."""

    task: Literal["detect", "classify"] = "detect"
    model: ModelConfig = field(default_factory=ModelConfig)
    class_names: tuple[str, ...] = ()  # in class order
    img_size: int = 608  # pixels; the width where there is a height
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    source: str = ""  # where the weights come from
    config: dict[str, Any] = field(default_factory=dict)  # of the run; empty if converted
    source_format: str = ""  # converted weights: the format they came in
    source_sha256: str = ""  # converted weights: hexadecimal digest of the file they came in
    # Of converted weights: what converting back needs, and what was assumed.
    origin: dict[str, Any] = field(default_factory=dict)
    img_height: int | None = None  # pixels, of an input that is not a square

    @property
    def architecture(self) -> str:
        """Return the network's name, as `model.architecture` has it."""
        return self.model.architecture


def input_text(img_size: int, img_height: int | None) -> str:
    """Return the size of a network's input in words, without the unit."""
    return f"{img_size} x {img_height}" if img_height else str(img_size)


def preprocessing_of(data: DataConfig) -> Preprocessing:
    """Return how a run with these settings prepares an image."""
    return Preprocessing(
        data.resize, data.pad_value, "rgb", data.mean, data.std, data.crop_fraction
    )


def make_card(config: Config, class_names: tuple[str, ...], source: str) -> Card:
    """Return the card of the checkpoints that a run with `config` writes."""
    data = config.data
    preprocessing = preprocessing_of(data)
    model = config.model
    tree = record_to_tree(config)
    described = (model.task, model, class_names, data.img_size, preprocessing, source, tree)
    return Card(*described, img_height=data.img_height)


def parse_card(path: str | Path, text: str) -> Tree:
    """Return the card that a file holds as JSON text. Raises UserError where it is damaged."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"its card is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(path, "its card is damaged", type(tree).__name__, "a mapping")
    return tree


def build_card(path: str | Path, tree: Tree) -> Card:
    """Return the record of a card's plain mappings. Raises UserError with the wrong key."""
    known = {name: value for name, value in tree.items() if name in Card.__dataclass_fields__}
    try:
        card: Card = build_record(Card, known, "card.")
        task = card.model.task
        require(card.task == task, "card.task", "not of its model", card.task, task)
        sides = {"img_size": card.img_size, "img_height": card.img_height}
        given = record_to_tree(card.preprocessing) | sides
        del given["color"]
        data: DataConfig = build_record(DataConfig, given, "card.")  # the ranges of a recipe
        if task == "detect":
            data.require_cells()
    except UserError as error:
        raise UserError(path, f"its card is damaged: {error}") from error
    return card

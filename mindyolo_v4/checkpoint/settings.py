"""A checkpoint's card against the user's configuration: what the weights fix, and what the user may choose."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.config.recipe import (
    Tree,
    build_config,
    build_record,
    merge_trees,
    record_to_tree,
    written_keys,
)
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError

_UNUSED_IN_INFERENCE = {"bn_momentum", "objectness_prior", "cpu_fused", "sync_bn"}
_VARIANTS = (
    "topdown_kernel",
    "stride2_padding",
    "bn_eps",
)  # no recipe names them: the weights know
_HEAD_VARIANTS = ("box_decode", "scale_x_y")
_NO_PART_OF_TRAINING = ("save_dir", "weight", "evaluate")
_FROM_THE_RUN = (
    "data",
    "evaluate",
    "train",
)  # sections of a run's configuration that testing starts from
_NETWORKS = {"detect": "detector", "classify": "classifier"}
# Where neither a recipe nor a run says what the data are, converted weights for instance.
_DATA_OF_TASK: dict[str, Tree] = {
    "detect": {},
    "classify": {"data": {"format": "imagenet", "train": "train", "val": "val"}},
}


def make_card(config: Config, class_names: tuple[str, ...], source: str) -> Card:
    """Return the card of the checkpoints that a run with `config` writes."""
    data = config.data
    preprocessing = Preprocessing(
        data.resize, data.pad_value, "rgb", data.mean, data.std, data.crop_fraction
    )
    return Card(
        config.model.task,
        config.model,
        class_names,
        data.img_size,
        preprocessing,
        source,
        record_to_tree(config),
    )


def read_card(path: str | Path, task: str | None = None, whole: bool = False) -> Card:
    """Return a checkpoint's card.

    Args:
        task: "detect" or "classify", what the network must do; None: anything.
        whole: it must have its head; a task asks for that, training that starts from it does not.

    Raises:
        UserError: the file is damaged, is no checkpoint of ours, or its network is another or not whole.
    """
    card = build_card(path, checkpoint.load_card(path))
    if task not in (None, card.task):
        raise UserError(path, f"holds no {_NETWORKS[str(task)]}", card.task, task)
    if (whole or task is not None) and not card.class_names:
        raise UserError(
            path,
            "holds the beginning of a network only, without a head: training can start from it",
        )
    return card


def build_card(path: str | Path, tree: Tree) -> Card:
    """Return the card that a checkpoint holds as plain mappings. Raises UserError naming the key that is wrong."""
    known = {name: value for name, value in tree.items() if name in Card.__dataclass_fields__}
    card: Card = build_record(Card, known, f"{path}: card.")
    return card


def config_for_checkpoint(path: str | Path, card: Card, recipe: Tree, overrides: Tree) -> Config:
    """Return the configuration to test or predict with: the checkpoint's network, the user's data and settings.

    The run's own configuration stands in for a missing recipe. The checkpoint's architecture wins; its preprocessing
    and input size win over a recipe, and the command line over both.

    Raises:
        UserError: a written `model.*` key contradicts the checkpoint.
    """
    written = merge_trees(recipe, overrides, "command line")
    check_architecture(path, card, written_keys(written, "model"))
    base = recipe or {name: card.config[name] for name in _FROM_THE_RUN if name in card.config}
    base = merge_trees(_DATA_OF_TASK[card.task], base, str(path))
    fixed = record_to_tree(card.preprocessing) | {"img_size": card.img_size}
    del fixed["color"]
    if "names" not in written.get("data", {}):
        fixed["names"] = list(card.class_names)
    tree = merge_trees(base, {"data": fixed, "model": record_to_tree(card.model)}, str(path))
    own = {name: value for name, value in overrides.items() if name != "model"}
    return build_config(merge_trees(tree, own, "command line"))


def check_architecture(path: str | Path, card: Card, written: dict[str, Any]) -> None:
    """Raise UserError where a written `model.*` key is not what the checkpoint holds."""
    for name, value in written.items():
        held = getattr(card.model, name)
        if name in _UNUSED_IN_INFERENCE or value == held:
            continue
        anchors_agree = name in ("anchors_wh_px", "scale_x_y") and value is not None
        if (
            anchors_agree
            and replace(card.model, **{name: value}).anchor_set == card.model.anchor_set
        ):
            continue
        raise UserError(f"model.{name}", f"contradicts the checkpoint {path}", value, held)


def take_over_variants(config: Config, tree: Tree, card: Card) -> tuple[Config, list[str]]:
    """Give a training configuration the variants of the weights that it starts from, unless it names them itself.

    Returns:
        The configuration, and one text for each value that changed.
    """
    taken = []
    model, data = config.model, config.data
    given = {name: getattr(card.model, name) for name in _VARIANTS}
    if card.task == "detect":
        given |= {name: getattr(card.model, name) for name in _HEAD_VARIANTS}
    if card.model.activations[0] != model.activations[0]:
        given["backbone_activation"] = card.model.activations[0]
    for name, value in given.items():
        if name not in tree.get("model", {}) and value != getattr(model, name):
            model = replace(model, **{name: value})
            taken.append(f"model.{name}: {value}")
    for name in ("mean", "std"):
        value = getattr(card.preprocessing, name)
        if name not in tree.get("data", {}) and value != getattr(data, name):
            data = replace(data, **{name: value})
            taken.append(f"data.{name}: {list(value)}")
    return replace(config, model=model, data=data), taken


def changed_settings(held: Tree, config: Config) -> list[str]:
    """Return a text for each value that differs between the configuration of a checkpoint and the one in force."""
    return [
        f"{path}: {there} -> {here}"
        for path, there, here in _differences(held, record_to_tree(config))
        if not path.startswith(_NO_PART_OF_TRAINING)
    ]


def _differences(there: Tree, here: Tree, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, value in here.items():
        held = there.get(name, value)  # a key that came later has no value to differ from
        if isinstance(value, dict) and isinstance(held, dict):
            yield from _differences(held, value, f"{prefix}{name}.")
        elif held != value:
            yield prefix + name, held, value

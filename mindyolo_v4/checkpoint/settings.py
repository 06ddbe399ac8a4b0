"""Which settings a checkpoint fixes, and which the user may choose."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from mindyolo_v4.anchors import LAYOUTS
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.model import Architecture, ModelConfig
from mindyolo_v4.config.recipe import (
    Tree,
    build_config,
    merge_trees,
    record_to_tree,
    require_tiles,
    written_keys,
)
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError, first_names, printable, require

_UNUSED_IN_INFERENCE = (
    *("bn_momentum", "objectness_prior", "class_prior"),
    *("cpu_fused", "sync_bn", "norm", "dropblock"),
)
# No recipe names these: the weights know them.
_VARIANTS = ("topdown_kernel", "stride2_padding", "bn_eps", "leaky_slope", "residual")
_HEAD_VARIANTS = ("box_decode", "scale_x_y")
_ANCHORS = ("anchors_wh_px", "anchor_masks")
_NO_PART_OF_TRAINING = ("save_dir", "weight", "evaluate")
_FROM_THE_RUN = ("data", "evaluate", "train")  # what testing takes of a run's configuration
# Keys of `data` that testing does not read. Older runs may hold values that are refused today.
_UNUSED_DATA = {"detect": ("mindrecord",), "classify": ("augment",)}
# Where neither a recipe nor a run says what the data are, converted weights for instance.
_DATA_OF_TASK: dict[str, Tree] = {
    "detect": {},
    "classify": {"data": {"format": "imagenet", "train": "train", "val": "val"}},
}


class Described(Protocol):
    """A weight file that has a card: a checkpoint, or an exported file."""

    @property
    def path(self) -> Path: ...

    @property
    def card(self) -> Card: ...


def config_for_checkpoint(checkpoint: Described, recipe: Tree, overrides: Tree) -> Config:
    """Return the configuration to test or predict with.

    The network is the checkpoint's. Its preprocessing and input size win over a recipe, and the
    command line wins over both. Where no recipe is given, the run's own configuration is used.

    Raises:
        UserError: the checkpoint has no head, a written `model.*` key contradicts it, or
            an override has no effect.
    """
    card = checkpoint.card
    source = str(checkpoint.path)
    problem = "holds the beginning of a network only, without a head: training can start from it"
    require(bool(card.class_names), source, problem)
    written = merge_trees(recipe, overrides, "command line")
    _check_architecture(checkpoint, written_keys(written, "model"))
    base = merge_trees(_DATA_OF_TASK[card.task], recipe or _settings_of_run(checkpoint), source)
    if not recipe and "root" in overrides.get("data", {}):
        base.get("data", {}).pop("mindrecord", None)  # the packed images are those of the run's set
    # Who names a size means a square, unless a height is named too.
    is_square = "img_size" in overrides.get("data", {})
    height = None if is_square else card.img_height
    fixed = record_to_tree(card.preprocessing) | {"img_size": card.img_size, "img_height": height}
    del fixed["color"]
    if "names" not in written.get("data", {}) and not _selects_classes(base, overrides):
        fixed["names"] = list(card.class_names)
    tree = merge_trees(base, {"data": fixed, "model": record_to_tree(card.model)}, source)
    own = {name: value for name, value in overrides.items() if name != "model"}
    config = build_config(merge_trees(tree, own, "command line"))
    require_tiles(config, overrides)
    return config


def _selects_classes(base: Tree, overrides: Tree) -> bool:
    """Tell whether the data set's own names are read, and classes chosen from them."""
    data = merge_trees(base, overrides, "command line").get("data", {})
    chosen = {name: data[name] for name in ("file", "classes", "single_cls") if name in data}
    return any(written_keys({"data": chosen}, "data").values())


def _settings_of_run(checkpoint: Described) -> Tree:
    """Return what testing takes of the run's configuration. Raises UserError where it is unfit."""
    held = checkpoint.card.config
    run = {name: held[name] for name in _FROM_THE_RUN if name in held}
    if isinstance(run.get("data"), dict):
        unused = _UNUSED_DATA[checkpoint.card.task]
        run["data"] = {name: value for name, value in run["data"].items() if name not in unused}
    try:
        model = {"model": record_to_tree(checkpoint.card.model)}
        build_config(merge_trees(model, run, str(checkpoint.path)))
    except UserError as error:
        problem = f"the configuration in its card cannot be used: {error}"
        raise UserError(checkpoint.path, problem, None, "--config FILE") from error
    return run


def _check_architecture(checkpoint: Described, written: dict[str, Any]) -> None:
    """Raise UserError where a written `model.*` key is not what the checkpoint holds."""
    model = checkpoint.card.model
    own = _own_values(model.architecture)

    def meant(name: str, value: Any) -> Any:
        return own.get(name) if value is None else value

    for name, value in written.items():
        held = meant(name, getattr(model, name))
        is_fitted = name == "anchors_wh_px" and value == "auto"
        if name in _UNUSED_IN_INFERENCE or meant(name, value) == held or is_fitted:
            continue
        problem = f"contradicts the checkpoint {checkpoint.path}"
        raise UserError(f"model.{name}", problem, value, held)


def _own_values(architecture: Architecture) -> dict[str, Any]:
    """Return what the keys of `model` that may be null stand for then."""
    backbone, neck = ModelConfig(architecture).activations
    layout = LAYOUTS[architecture]
    own = {name: getattr(layout, name) for name in (*_ANCHORS, *_HEAD_VARIANTS)}
    return own | {"backbone_activation": backbone, "neck_activation": neck}


def take_over_variants(
    config: Config, tree: Tree, checkpoint: Described
) -> tuple[Config, list[str]]:
    """Give a training configuration the variants of the weights that it starts from.

    A variant that `tree` names stays.

    Returns:
        The configuration, and one line for each value that changed.
    """
    card = checkpoint.card
    taken = []
    model = config.model
    data = config.data
    has_same_levels = LAYOUTS[card.architecture] == LAYOUTS[model.architecture]
    variants = _VARIANTS + (_HEAD_VARIANTS if has_same_levels else ())
    given = {name: getattr(card.model, name) for name in variants}
    if card.model.decode == model.decode:  # by name or as the architecture's own
        given.pop("box_decode", None)
    if card.model.activations[0] != model.activations[0]:
        given["backbone_activation"] = card.model.activations[0]
    written = tree.get("model", {})
    if card.architecture == model.architecture:
        if card.model.activations[1] != model.activations[1]:
            given["neck_activation"] = card.model.activations[1]
        if written.keys().isdisjoint(_ANCHORS):
            given |= {name: getattr(card.model, name) for name in _ANCHORS}
    changed = {
        name: value
        for name, value in given.items()
        if name not in written and value != getattr(model, name)
    }
    model = replace(model, **changed)
    taken += [f"model.{name}: {value}" for name, value in changed.items()]
    for name in ("mean", "std"):
        value = getattr(card.preprocessing, name)
        if name not in tree.get("data", {}) and value != getattr(data, name):
            data = replace(data, **{name: value})
            taken.append(f"data.{name}: {list(value)}")
    lines = [f"taken over from {checkpoint.path}: {line}" for line in taken]
    if model.residual != "plain" and card.model.residual == "plain":
        text = f"the shares of one half change the plain residual sums of {checkpoint.path}"
        lines.append(f"model.residual: {model.residual}: {text}")
    if model.anchors_wh_px == "auto" and has_same_levels and card.class_names:
        lines.append(f"model.anchors_wh_px: auto replaces the anchors of {checkpoint.path}")
    return replace(config, model=model, data=data), lines


def require_same_classes(checkpoint: Described, class_names: tuple[str, ...], source: str) -> None:
    """Raise UserError where the classes of a data set, read from `source`, are not the same."""
    require_same_names(checkpoint.card.class_names, checkpoint.path, class_names, source)


def require_same_names(
    names: tuple[str, ...], source: object, others: tuple[str, ...], other_source: str
) -> None:
    """Raise UserError, which names both sources, where their class names are not the same."""
    if others == names:
        return
    problem = f"its {len(names)} class names are not the {len(others)} of {other_source}"
    pairs = enumerate(zip_longest(names, others))
    number, (held, given) = next((k, pair) for k, pair in pairs if pair[0] != pair[1])
    described = [f"class {number} {'absent' if n is None else repr(n)}" for n in (given, held)]
    raise UserError(source, problem, described[0], described[1])


def describe_other_classes(checkpoint: Described, class_names: tuple[str, ...]) -> list[str]:
    """Return a line if the weights that a training starts from were trained on other classes."""
    own = checkpoint.card.class_names
    if own in ((), class_names):
        return []
    classes = printable(first_names(own, 4))
    return [f"{checkpoint.path}: trained on other classes: {classes}"]


def changed_settings(checkpoint: Described, config: Config) -> list[str]:
    """Return a line for each value that differs from the checkpoint's configuration."""
    return [
        f"{path}: {there} -> {here}"
        for path, there, here in _differences(checkpoint.card.config, record_to_tree(config))
        if not path.startswith(_NO_PART_OF_TRAINING)
    ]


def _differences(there: Tree, here: Tree, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, value in here.items():
        held = there.get(name, value)  # a key that came later has no value to differ from
        if isinstance(value, dict) and isinstance(held, dict):
            yield from _differences(held, value, f"{prefix}{name}.")
        elif held != value:
            yield prefix + name, held, value

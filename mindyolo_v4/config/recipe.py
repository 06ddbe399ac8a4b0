"""YAML recipes and command-line overrides -> one frozen, validated `Config`, and back to YAML.

A recipe is a YAML mapping over the fields of `config.root.Config`. `__BASE__: FILE` (or a list)
names the recipes that it builds on, relative to itself, or recipes of the package. Values are read
as text, and the annotation of the field converts them.
"""

import dataclasses
import difflib
import os
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mindyolo_v4.config.peers import find_counterpart
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.text_files import PlainText, is_null, parse_yaml, read_text
from mindyolo_v4.config.values import convert, plain
from mindyolo_v4.errors import UserError

RUN_CONFIG = "config.yaml"  # in a run folder: the whole configuration of its training
BASE_KEY = "__BASE__"
# Key that older recipes and run folders hold -> why it is gone; the value `off` is accepted.
_REMOVED = {"compile_cache": "was removed (it saved six seconds on CPU); the key can be deleted"}
_MOST_BASES = 50  # recipes that build on one another
# What data.file decides.
_IN_DATA_FILE = (
    *("data.format", "data.root", "data.train", "data.val", "data.test"),
    *("data.names", "data.num_classes"),
)
Tree = dict[str, Any]
Record = typing.TypeVar("Record")


def load_config(
    path: str | Path | None = None, overrides: Sequence[tuple[str, str]] = ()
) -> Config:
    """Read a recipe, apply `(dotted key, text)` overrides and return the validated configuration.

    Raises:
        UserError: a file is missing or not YAML, a key is unknown, or a value does not fit its key.
    """
    return build_config(read_tree(path, overrides))


def read_tree(path: str | Path | None = None, overrides: Sequence[tuple[str, str]] = ()) -> Tree:
    """Return the keys that a recipe and the overrides name, and no others, as a nested mapping."""
    tree = _read_file(find_recipe(path), (), {}) if path is not None else {}
    given = {dotted for dotted, _ in overrides}
    for key in _IN_DATA_FILE:
        if key in given and "data.file" in given:
            raise UserError(f"--{key}", "--data says this as well", None, "one of the two options")
    for dotted, text in overrides:
        section: Tree = {}
        leaf = section
        *parents, name = dotted.split(".")
        for parent in parents:
            leaf = leaf.setdefault(parent, {})
        leaf[name] = PlainText(text)
        tree = merge_trees(tree, section, "command line")
    return tree


def recipes_folder() -> Path:
    """Return the folder of the package's recipes: `configs/` of the checkout, or the one inside."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if (installed / "base").is_dir() else package.parent / "configs"


def find_recipe(path: str | Path, folder: Path = Path()) -> Path:
    """Return the recipe `path` of `folder`, or the package's where there is no such file.

    `yolov4/bccd.yaml` and `configs/yolov4/bccd.yaml` name the same recipe of the package.
    """
    own = folder / path
    parts = Path(path).parts
    name = Path(*parts[1:]) if parts[:1] == ("configs",) else Path(path)
    packaged = recipes_folder() / name
    return packaged if packaged.is_file() and not own.is_file() else own


def merge_trees(
    base: Tree, update: Tree, source: str, cls: type = Config, prefix: str = ""
) -> Tree:
    """Return `base` updated by `update`; sections are merged, any other value is replaced.

    Args:
        source: file of `update`, or "command line", for errors.

    Raises:
        UserError: a key of `update` is unknown; it names the dotted path and the nearest key. Or
            the command line names a key that the `data.file` of `base` decides.
    """
    merged = dict(base)
    hints = typing.get_type_hints(cls)
    for name, value in update.items():
        dotted = f"{prefix}{name}"
        if dotted in _REMOVED:
            if str(value).lower() not in ("off", "false"):
                raise UserError(dotted, f"{_REMOVED[dotted]}, in {source}", value, "off")
            continue
        if name not in hints:
            raise _unknown_key(dotted, source, cls)
        decides = dotted in _IN_DATA_FILE and not is_null(base.get("file"))
        if decides and source == "command line":
            problem = "data.file of the recipe says this as well"
            raise UserError(f"--{dotted}", problem, None, "--data FILE")
        if not dataclasses.is_dataclass(hints[name]):
            before = merged.get(name)
            # --data.train.images sets one key of a value that is a mapping, and keeps the others.
            adds = source == "command line" and isinstance(value, dict) and isinstance(before, dict)
            merged[name] = before | value if adds else value
        elif isinstance(value, dict):
            merged[name] = merge_trees(
                merged.get(name, {}), value, source, hints[name], f"{dotted}."
            )
        elif not is_null(value):
            raise UserError(dotted, f"is a section, in {source}", value, f"{dotted}.<key>")
    return merged


def build_config(tree: Tree) -> Config:
    """Convert a nested mapping to the validated configuration."""
    return build_record(Config, tree)


def build_record(cls: type[Record], tree: Tree, prefix: str = "") -> Record:
    """Convert a nested mapping to the dataclass `cls`; `prefix` names it in errors."""
    hints = typing.get_type_hints(cls)
    values = {}
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            section = tree.get(name, {})
            if not isinstance(section, dict):
                expected = f"{prefix}{name}.<key>"
                raise UserError(f"{prefix}{name}", "is a section", section, expected)
            values[name] = build_record(hint, section, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif name in tree:
            values[name] = convert(tree[name], hint, f"{prefix}{name}")
    return cls(**values)


def require_tiles(config: Config, overrides: Tree) -> None:
    """Raise UserError where the command line sets the overlap of tiles, and there are no tiles."""
    overlap = overrides.get("evaluate", {}).get("tile_overlap")
    if overlap is not None and config.evaluate.tile is None:
        raise UserError("--overlap", "has no effect without tiles", str(overlap), "--tile PIXELS")


def record_to_tree(record: Any) -> Tree:
    """Return a configuration, a section or a card as plain mappings, lists and scalars."""
    tree: Tree = plain(dataclasses.asdict(record))
    return tree


def written_tree(config: Config) -> Tree:
    """Return the keys of a configuration whose values are not the defaults."""
    return _beside(record_to_tree(config), record_to_tree(Config()))


def dump_config(config: Config) -> str:
    """Return the configuration as YAML; `load_config` reads back an equal one."""
    return yaml.safe_dump(record_to_tree(config), sort_keys=False, allow_unicode=True)


def print_config(config: Config) -> int:
    """Print the configuration as YAML, which `--config` reads back; return exit status 0."""
    print(dump_config(config), end="")
    return 0


def written_keys(tree: Tree, section: str) -> dict[str, Any]:
    """Return the keys that a tree names in one section, with converted values."""
    cls = typing.get_type_hints(Config)[section]
    hints = typing.get_type_hints(cls)
    written: dict[str, Any] = {}
    for name, value in tree.get(section, {}).items():
        hint = hints[name]
        key = f"{section}.{name}"
        if dataclasses.is_dataclass(hint):
            written[name] = build_record(hint, value, f"{key}.")  # type: ignore[arg-type]
        else:
            written[name] = convert(value, hint, key)
    return written


def _unknown_key(dotted: str, source: str, cls: type) -> UserError:
    """Return the error with the nearest key: of the same section, else of another one.

    Where another project has the key, it is the one here that does the same.
    """
    if counterpart := find_counterpart(dotted):
        problem = f"unknown key in {source}, {counterpart.origin}"
        return UserError(dotted, problem, expected=" | ".join(counterpart.names) or None)
    if dotted in field_paths():  # written with its dots at the top of a file
        *sections, name = dotted.split(".")
        nested = f"{name}: ..."
        for section in reversed(sections):
            nested = f"{section}: {{{nested}}}"
        return UserError(dotted, f"key with dots in {source}", expected=nested)
    prefix, _, name = dotted.rpartition(".")
    fields = [field.name for field in dataclasses.fields(cls)]
    near = [f"{prefix}.{key}".lstrip(".") for key in difflib.get_close_matches(name, fields, n=1)]
    if not near:
        everywhere = {path.rpartition(".")[2]: path for path in field_paths()}
        similar = difflib.get_close_matches(name, everywhere, n=1, cutoff=0.8)
        near = [everywhere[key] for key in similar]
    return UserError(dotted, f"unknown key in {source}", expected=near[0] if near else None)


def field_paths(cls: type = Config, prefix: str = "") -> list[str]:
    """Return the dotted path of every key of the configuration except the sections."""
    paths = []
    for name, hint in typing.get_type_hints(cls).items():
        nested = dataclasses.is_dataclass(hint)
        paths += field_paths(hint, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return paths


def _read_file(path: Path, chain: tuple[Path, ...], known: dict[Path, Tree]) -> Tree:
    """Read a recipe and its bases, each file once.

    `chain` holds the files whose bases lead here, `known` those that were read.
    """
    if not path.is_file():
        named_by = f", named by {BASE_KEY} of {chain[-1]}" if chain else ""
        recipes = recipes_folder()
        names = [str(recipe.relative_to(recipes)) for recipe in recipes.rglob("*.yaml")]
        near = [name for name in names if Path(name).name == path.name]
        near = near or difflib.get_close_matches(str(path), names, n=1)
        problem = f"no such configuration file{named_by}"
        raise UserError(path, problem, expected=near[0] if near else None)
    file = Path(os.path.realpath(path))
    if file in chain:
        raise UserError(file, f"{BASE_KEY} leads back to itself")
    if len(chain) > _MOST_BASES:
        raise UserError(chain[0], f"more than {_MOST_BASES} files follow one another in {BASE_KEY}")
    if file in known:
        return known[file]

    content = parse_yaml(read_text(path), path)
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UserError(path, "not a mapping of keys to values", content)
    named = content.pop(BASE_KEY, None)
    bases = named if isinstance(named, list) else [] if is_null(named) else [named]
    if not all(isinstance(base, str) and not is_null(base) for base in bases):
        raise UserError(path, f"{BASE_KEY} does not name files", named, "FILE or [FILE, ...]")
    tree: Tree = {}
    for base in bases:
        base_tree = _read_file(find_recipe(base, path.parent), (*chain, file), known)
        tree = merge_trees(tree, base_tree, base)
    known[file] = merge_trees(tree, content, str(path))
    return known[file]


def _beside(tree: Tree, defaults: Tree) -> Tree:
    """Return what of a tree differs from another one with the same sections."""
    changed: Tree = {}
    for name, value in tree.items():
        default = defaults.get(name)
        if value == default:
            continue
        is_section = isinstance(value, dict) and isinstance(default, dict)
        changed[name] = _beside(value, default or {}) if is_section else value
    return changed

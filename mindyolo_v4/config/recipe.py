"""YAML recipes and command-line overrides -> one frozen, validated `Config`, and back to YAML.

A recipe is a YAML mapping over the fields of `config.root.Config`. `__BASE__: FILE` (or a list)
names the recipes that it builds on, relative to itself, or recipes of the package. Values are read
as text, and the annotation of the field converts them.
"""

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from mindyolo_v4.config.peers import find_counterpart
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.text_files import PlainText, is_null, parse_yaml, read_text
from mindyolo_v4.errors import UserError

BASE_KEY = "__BASE__"
# Key that older recipes and run folders hold -> why it is gone; the value `off` is accepted.
_REMOVED = {"compile_cache": "was removed (it saved six seconds on CPU); the key can be deleted"}
# A field may call one of its choices by any of these names.
_BOOLEAN_WORDS = {True: ("on", "yes", "true"), False: ("off", "no", "false")}
_MOST_BASES = 50  # recipes that build on one another
_LARGEST = 1e15  # number in any field; whole numbers are exact up to there
# What data.file decides.
_IN_DATA_FILE = ("format", "root", "train", "val", "test", "names", "num_classes")
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
    for key in (f"data.{name}" for name in _IN_DATA_FILE):
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
        UserError: a key of `update` is unknown; it names the dotted path and the nearest key.
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
        if not dataclasses.is_dataclass(hints[name]):
            merged[name] = value
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
            values[name] = _convert(tree[name], hint, f"{prefix}{name}")
    return cls(**values)


def record_to_tree(record: Any) -> Tree:
    """Return a configuration, a section or a card as plain mappings, lists and scalars."""
    tree: Tree = _plain(dataclasses.asdict(record))
    return tree


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
    return {
        name: _convert(value, hints[name], f"{section}.{name}")
        for name, value in tree.get(section, {}).items()
    }


def _unknown_key(dotted: str, source: str, cls: type) -> UserError:
    """Return the error with the nearest key: of the same section, else of another one.

    Where another project has the key, it is the one here that does the same.
    """
    if counterpart := find_counterpart(dotted):
        problem = f"unknown key in {source}, {counterpart.origin}"
        return UserError(dotted, problem, expected=" | ".join(counterpart.names) or None)
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


def _convert(value: Any, hint: Any, key: str) -> Any:
    """Convert one value to the annotation `hint` of the field `key`."""
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if is_null(value):
            return None
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if len(kinds) > 1:  # values, or a word that stands for them
            (words,) = (kind for kind in kinds if get_origin(kind) is typing.Literal)
            if isinstance(value, str) and value.lower() in get_args(words):
                return value.lower()
            if isinstance(value, str) and "[" not in value:
                expected = " | ".join((*get_args(words), "[value, ...]"))
                raise UserError(key, "not one of its choices", value, expected)
            kinds.remove(words)
        (inner,) = kinds
        return _convert(value, inner, key)
    if hint is str:
        if not isinstance(value, str):
            raise UserError(key, "not a text", value, "text (quote it in YAML)")
        return str(value)
    if origin is typing.Literal:
        return _convert_choice(value, get_args(hint), key)

    if isinstance(value, PlainText) and (hint is Any or origin in (tuple, dict)):
        try:
            value = parse_yaml(value, key)
        except UserError:
            value = str(value)
    if hint is Any:
        return None if is_null(value) else _plain(value)
    if origin is tuple:
        return _convert_tuple(value, hint, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(key, "not a mapping", value, "{name: value, ...}")
        _, kind = get_args(hint)
        return {str(name): _convert(item, kind, f"{key}.{name}") for name, item in value.items()}
    return _convert_scalar(value, hint, key)


def _convert_choice(value: Any, options: tuple, key: str) -> Any:
    word = "none" if is_null(value) else str(value).lower()
    words = next((words for words in _BOOLEAN_WORDS.values() if word in words), (word,))
    for option in options:
        if str(option).lower() in (word, *words):
            return option
    raise UserError(key, "not one of its choices", value, " | ".join(map(str, options)))


def _convert_tuple(value: Any, hint: Any, key: str) -> tuple:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise UserError(key, "not a list", value, "[value, ...]")
    kinds = get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(items) != len(kinds):
        raise UserError(key, f"needs {len(kinds)} values", value)
    pairs = enumerate(zip(items, kinds, strict=True))
    return tuple(_convert(item, kind, f"{key}[{i}]") for i, (item, kind) in pairs)


def _convert_scalar(value: Any, hint: type, key: str) -> Any:
    expected = {bool: "true or false", int: "a whole number", float: "a number"}[hint]
    if hint is bool:
        if isinstance(value, bool):
            return value
        for truth, words in _BOOLEAN_WORDS.items():
            if isinstance(value, PlainText) and value.lower() in words:
                return truth
        raise UserError(key, f"not {expected}", value)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (hint is int and not number.is_integer()):
        raise UserError(key, f"not {expected}", value)
    if abs(number) > _LARGEST:
        raise UserError(key, "out of range", value, f"at most {_LARGEST:g}")
    return int(number) if hint is int else number


def _plain(value: Any) -> Any:
    """Return sequences as lists, and text as str, which YAML's writer requires."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value

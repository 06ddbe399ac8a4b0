"""YAML recipes and command-line overrides -> one frozen, validated `Config`, and back to YAML.

A recipe is a YAML mapping over the fields of `schema.root.Config`; `__BASE__: FILE` (or a list) names recipes that it
builds on, relative to itself. Values are read by `yaml.safe_load` and converted by the field's annotation.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError

BASE_KEY = "__BASE__"
Tree = dict[str, Any]
Record = typing.TypeVar("Record")


class _Text(str):
    """A value from the command line: text that still has to be read as the field's type."""


def load_config(
    path: str | Path | None = None, overrides: Sequence[tuple[str, str]] = ()
) -> Config:
    """Read a recipe, apply `(dotted key, text)` overrides and return the validated configuration.

    Raises:
        UserError: a file is missing or no YAML, a key is unknown, or a value does not fit its field.
    """
    return build_config(read_tree(path, overrides))


def read_tree(path: str | Path | None = None, overrides: Sequence[tuple[str, str]] = ()) -> Tree:
    """Return what a recipe and the overrides say, as a nested mapping of the keys that they name and no others."""
    tree = _read_file(Path(path), ()) if path is not None else {}
    for dotted, text in overrides:
        section: Tree = {}
        leaf = section
        *parents, name = dotted.split(".")
        for parent in parents:
            leaf = leaf.setdefault(parent, {})
        leaf[name] = _Text(text)
        tree = merge_trees(tree, section, "command line")
    return tree


def merge_trees(
    base: Tree, update: Tree, source: str, cls: type = Config, prefix: str = ""
) -> Tree:
    """Return `base` with the keys of `update` laid over it; sections merge, any other value is replaced whole.

    Raises:
        UserError: a key of `update` is no field; names its dotted path and the nearest field.
    """
    merged = dict(base)
    hints = typing.get_type_hints(cls)
    for name, value in update.items():
        dotted = f"{prefix}{name}"
        if name not in hints:
            raise _unknown_key(dotted, source, cls)
        if not dataclasses.is_dataclass(hints[name]):
            merged[name] = value
        elif isinstance(value, dict):
            merged[name] = merge_trees(
                merged.get(name, {}), value, source, hints[name], f"{dotted}."
            )
        elif value is not None:
            raise UserError(dotted, f"is a section, in {source}", value, f"{dotted}.<key>")
    return merged


def build_config(tree: Tree) -> Config:
    """Convert a nested mapping to the validated configuration."""
    return build_record(Config, tree)


def build_record(cls: type[Record], tree: Tree, prefix: str = "") -> Record:
    """Convert a nested mapping to the record `cls`, a dataclass of the schema; `prefix` names it in errors."""
    hints = typing.get_type_hints(cls)
    values = {}
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            values[name] = build_record(hint, tree.get(name, {}), f"{prefix}{name}.")  # type: ignore[arg-type]
        elif name in tree:
            values[name] = _convert(tree[name], hint, f"{prefix}{name}")
    return cls(**values)


def record_to_tree(record: Any) -> Tree:
    """Return a configuration, one of its sections or a card as plain mappings, lists and scalars."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def dump_config(config: Config) -> str:
    """Return the configuration as YAML that `load_config` reads back equal."""
    return yaml.safe_dump(record_to_tree(config), sort_keys=False, allow_unicode=True)


def written_keys(tree: Tree, section: str) -> dict[str, Any]:
    """Return the keys that a tree names in one section, with their values converted."""
    cls = typing.get_type_hints(Config)[section]
    hints = typing.get_type_hints(cls)
    return {
        name: _convert(value, hints[name], f"{section}.{name}")
        for name, value in tree.get(section, {}).items()
    }


def _unknown_key(dotted: str, source: str, cls: type) -> UserError:
    prefix, _, name = dotted.rpartition(".")
    near = difflib.get_close_matches(name, [field.name for field in dataclasses.fields(cls)], n=1)
    if not near:
        everywhere = {path.rpartition(".")[2]: path for path in field_paths()}
        elsewhere = difflib.get_close_matches(name, everywhere, n=1, cutoff=0.8)
        return UserError(
            dotted,
            f"unknown key in {source}",
            expected=everywhere[elsewhere[0]] if elsewhere else None,
        )
    return UserError(
        dotted, f"unknown key in {source}", expected=f"{prefix}.{near[0]}" if prefix else near[0]
    )


def field_paths(cls: type = Config, prefix: str = "") -> list[str]:
    """Return the dotted path of every key of the configuration that is no section."""
    paths = []
    for name, hint in typing.get_type_hints(cls).items():
        nested = dataclasses.is_dataclass(hint)
        paths += field_paths(hint, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return paths


def _read_file(path: Path, chain: tuple[Path, ...]) -> Tree:
    path = path.resolve() if chain else path
    if path.resolve() in chain:
        raise UserError(path, f"{BASE_KEY} leads back to itself")
    if not path.is_file():
        named_by = f", named by {BASE_KEY} of {chain[-1]}" if chain else ""
        raise UserError(path, f"no such configuration file{named_by}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(path, f"not readable as YAML: {' '.join(str(error).split())}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(path, "not a mapping of keys to values", type(content).__name__)
    bases = content.pop(BASE_KEY, [])
    tree: Tree = {}
    for base in [bases] if isinstance(bases, str) else bases:
        base_tree = _read_file(path.parent / base, (*chain, path.resolve()))
        tree = merge_trees(tree, base_tree, str(base))
    return merge_trees(tree, content, str(path))


def _convert(value: Any, hint: Any, key: str) -> Any:
    """Convert one value to the annotation `hint` of the field `key`."""
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(value, hint, key)
    if hint is str:
        if not isinstance(value, str):
            raise UserError(key, "not a text", value, "text (quote it in YAML)")
        return str(value)
    if isinstance(value, _Text):
        value = _read_text(value, origin is typing.Literal)
    if hint is Any:
        return value
    if origin is typing.Literal:
        return _convert_choice(value, get_args(hint), key)
    if origin is tuple:
        return _convert_tuple(value, hint, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(key, "not a mapping", value, "{name: value, ...}")
        return {
            str(name): _convert(item, get_args(hint)[1], f"{key}.{name}")
            for name, item in value.items()
        }
    return _convert_scalar(value, hint, key)


def _read_text(text: str, choice: bool) -> Any:
    if choice:
        return str(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return str(text)


def _convert_optional(value: Any, hint: Any, key: str) -> Any:
    if value is None or (isinstance(value, _Text) and value.lower() in ("null", "none", "~", "")):
        return None
    (inner,) = (option for option in get_args(hint) if option is not type(None))
    return _convert(value, inner, key)


def _convert_choice(value: Any, options: tuple, key: str) -> Any:
    for option in options:
        if str(value).lower() == str(option).lower():
            return option
    raise UserError(
        key, "not one of its choices", value, " | ".join(str(option) for option in options)
    )


def _convert_tuple(value: Any, hint: Any, key: str) -> tuple:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise UserError(key, "not a list", value, "[value, ...]")
    arguments = get_args(hint)
    if arguments[-1] is Ellipsis:
        return tuple(_convert(item, arguments[0], f"{key}[{i}]") for i, item in enumerate(items))
    if len(items) != len(arguments):
        raise UserError(key, f"needs {len(arguments)} values", value)
    return tuple(
        _convert(item, kind, f"{key}[{i}]")
        for i, (item, kind) in enumerate(zip(items, arguments, strict=True))
    )


def _convert_scalar(value: Any, hint: type, key: str) -> Any:
    expected = {bool: "true or false", int: "a whole number", float: "a number"}[hint]
    if hint is bool:
        if not isinstance(value, bool):
            raise UserError(key, f"not {expected}", value)
        return value
    try:
        number = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    if (
        number is None
        or number != number
        or abs(number) == float("inf")
        or (hint is int and number != int(number))
    ):
        raise UserError(key, f"not {expected}", value)
    return int(number) if hint is int else number


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return record_to_tree(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value

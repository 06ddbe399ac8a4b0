"""Values of recipes and of the command line: text -> the type that a field is annotated with."""

import math
import types
import typing
from typing import Any, get_args, get_origin

from mindyolo_v4.config.text_files import PlainText, is_null, parse_yaml
from mindyolo_v4.errors import UserError

# A field may call one of its choices by any of these names.
_BOOLEAN_WORDS = {True: ("on", "yes", "true"), False: ("off", "no", "false")}
_LARGEST = 1e15  # number in any field; whole numbers are exact up to there


def convert(value: Any, hint: Any, key: str) -> Any:
    """Convert one value to the annotation `hint` of the field `key`.

    Raises:
        UserError: names `key`; the value is not of that type, or out of range.
    """
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
        return convert(value, inner, key)
    if hint is str:
        if not isinstance(value, str):
            raise UserError(key, "not a text", value, "text (quote it in YAML)")
        return str(value)
    if origin is typing.Literal:
        return _convert_choice(value, get_args(hint), key)

    if isinstance(value, PlainText) and (hint is Any or origin in (tuple, dict)):
        try:
            parsed = parse_yaml(value, key)
        except UserError:
            parsed = str(value)
        if parsed is not None and not isinstance(parsed, PlainText):  # a path may have " #" in it
            value = parsed
    if hint is Any:
        return None if is_null(value) else plain(value)
    if origin is tuple:
        return _convert_tuple(value, hint, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(key, "not a mapping", value, "{name: value, ...}")
        _, kind = get_args(hint)
        return {str(name): convert(item, kind, f"{key}.{name}") for name, item in value.items()}
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
    return tuple(convert(item, kind, f"{key}[{i}]") for i, (item, kind) in pairs)


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


def plain(value: Any) -> Any:
    """Return sequences as lists, and text as str, which YAML's writer requires."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value

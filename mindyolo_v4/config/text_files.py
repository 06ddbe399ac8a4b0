"""Text and YAML files as people write them; each reader has one boundary for whatever is wrong."""

from pathlib import Path
from typing import Any

import yaml

from mindyolo_v4.errors import UserError

_MOST_VALUES = 200_000  # of a YAML file, counted with what its aliases repeat
_DEEPEST = 100  # levels of lists and mappings; the parser's time grows with their square
_NULLS = ("", "~", "null", "none")


class PlainText(str):
    """An unquoted YAML value, or one of the command line: still to be read as its field's type."""


class _TextLoader(yaml.SafeLoader):
    """Leave every value without a tag the text that stands in the file: `no`, `007`, `12:30`."""

    _depth = 0
    # of the merge keys
    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012

    def construct_scalar(self, node: yaml.Node) -> Any:
        text = super().construct_scalar(node)  # type: ignore[arg-type]
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return PlainText(text) if is_plain else text

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        known: set[str] = set()
        for key in keys:
            if key.value in known and key.value != "<<":
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"the key {key.value} occurs twice, again in line {line}")
            known.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_VALUES:
            raise yaml.YAMLError("its merge keys expand to very many values")


def is_null(value: Any) -> bool:
    """Tell whether a value is None, or text without quotes that means it."""
    return value is None or (isinstance(value, PlainText) and value.lower() in _NULLS)


def read_text(path: Path) -> str:
    """Return a UTF-8 file's content without byte order mark. Raises UserError where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(path, "not UTF-8 text", error.reason) from None
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, as `split_lines` does."""
    return split_lines(read_text(path))


def split_lines(text: str) -> list[str]:
    """Return the lines of a text; only newlines separate them, as editors count."""
    return [line.rstrip("\r") for line in text.split("\n")]


def parse_yaml(text: str, subject: object) -> Any:
    """Return YAML as mappings, lists and texts; a value without quotes is a PlainText.

    Raises:
        UserError: names `subject`; the text is not YAML, or its aliases expand to very many values.
    """
    try:
        content = yaml.load(text, _TextLoader)
    except yaml.YAMLError as error:
        raise UserError(subject, f"not readable as YAML: {' '.join(str(error).split())}") from None
    # what values with a tag raise: !!int abc, !!timestamp 2001-13-45, !!bool maybe, !!float []
    except (ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
        raise UserError(subject, f"not readable as YAML: {error}") from None
    _check_size(content, subject)
    return content


def _check_size(content: Any, subject: object) -> None:
    """Refuse content that would never end when it is walked through or printed."""
    count = 0
    waiting = [content]
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MOST_VALUES:
            raise UserError(subject, f"its aliases expand to more than {_MOST_VALUES} values")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value

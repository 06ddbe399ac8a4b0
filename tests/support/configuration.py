"""The page of all configuration keys: python -m tests.support.configuration > docs/configuration.md

Key, default and choices are those of the dataclasses in mindyolo_v4/config/; the meaning is the
comment of the field, and the unit is that of the last word of the key's name, else the first of
UNITS that the comment names.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from mindyolo_v4.config.command_line import FLAT_NAMES
from mindyolo_v4.config.root import Config

UNITS_OF_NAMES = {  # last word of a key -> its unit, whatever the comment says
    "px": "pixels",
    "prob": "probability",
    "megapixels": "megapixels",
    "classes": "classes",
    "seconds": "seconds",
    "minutes": "minutes",
    "epochs": "epochs",
}
UNITS = (
    *("pixels", "cells", "images", "boxes", "candidates", "detections", "anchors", "operations"),
    *(
        "epochs",
        "validations",
        "optimizer steps",
        "micro-batches",
        "steps",
        "degrees",
        "grey levels",
    ),
    *("grey levels", "processes", "files", "neighbours", "share", "fraction", "probability"),
    *("factor", "multiple", "exponent", "IoU"),
)
TITLE = "# All configuration keys"
INTRODUCTION = (
    "A recipe and the command line set these keys; [training.md](training.md#configuration) says",
    "how. `--print_config` of any command that takes a configuration prints all of them with the",
    "values that hold after recipe, command line and weights. The default holds where nothing else",
    "sets the key; the recipes in `configs/` set many of them. `python -m",
    "tests.support.configuration > docs/configuration.md` writes this page from",
    "`mindyolo_v4/config/`. Options of mindyolo, darknet and ultralytics, and the keys that do the",
    "same, are in [migration.md](migration.md).",
)
SHORT = (
    "These options of the command line have short names; `--help` of a command lists those that",
    "act there.",
)


@dataclass(frozen=True)
class Key:
    """One key of the configuration as the page shows it."""

    path: str  # dotted
    default: str
    unit: str  # or the choices
    meaning: str


def section_keys(section: type, prefix: str = "") -> list[Key]:
    """Return the keys of a section, without those of the sections in it."""
    hints = typing.get_type_hints(section)
    comments = field_comments(section)
    return [
        Key(
            f"{prefix}{field.name}",
            default_text(field),
            unit_of(hints[field.name], field.name, comments[field.name]),
            comments[field.name],
        )
        for field in dataclasses.fields(section)  # type: ignore[arg-type]
        if not dataclasses.is_dataclass(hints[field.name])
    ]


def all_sections(section: type = Config, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield the dotted name and the class of every section, the root first."""
    yield prefix, section
    for name, hint in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(hint):
            yield from all_sections(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def field_comments(section: type) -> dict[str, str]:
    """Return the comment above and beside each field of a dataclass; "" where there is none."""
    source = textwrap.dedent(inspect.getsource(section))
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    comments = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno - 1
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            above = [line.strip() for line in lines[first : node.lineno - 1]]
            beside = lines[node.end_lineno - 1][node.end_col_offset :].strip()
            words = " ".join(line.removeprefix("#").strip() for line in (*above, beside))
            comments[node.target.id] = sentence(words.strip())
    return comments


def sentence(words: str) -> str:
    """Return a comment with a capital letter, unless a name comes first, and a full stop."""
    if not words:
        return ""
    first = words.split()[0]
    is_name = first.endswith(":") or "." in first
    start = words[0] if is_name else words[0].upper()
    return f"{start}{words[1:]}{'' if words.endswith('.') else '.'}"


def default_text(field: "dataclasses.Field[Any]") -> str:
    """Return the default of a field as YAML has it."""
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    return yaml_text(value)


def yaml_text(value: Any) -> str:
    """Return a default as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def unit_of(hint: Any, name: str, comment: str) -> str:
    """Return the choices of a field, else the unit of its number."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if get_origin(hint) in (typing.Union, types.UnionType):
        return ", ".join(dict.fromkeys(unit_of(kind, name, comment) for kind in kinds))
    if get_origin(hint) is typing.Literal:
        return ", ".join(f"`{kind}`" for kind in kinds)
    if hint is bool:
        return "`true`, `false`"
    if hint in (str, Any):
        return "text" if hint is str else ""
    if get_origin(hint) is tuple and str in kinds:
        return "list of texts"
    return UNITS_OF_NAMES.get(name.rpartition("_")[2]) or unit_in(comment) or "number"


def unit_in(text: str) -> str:
    """Return the first unit that a text names."""
    ordered = sorted(UNITS, key=len, reverse=True)
    named = re.search(rf"(?<![\w-])({'|'.join(ordered)})(?![\w-])", text, re.IGNORECASE)
    return {unit.lower(): unit for unit in UNITS}[named[1].lower()] if named else ""


def page() -> str:
    """Return docs/configuration.md."""
    lines = [TITLE, "", *INTRODUCTION, "", "## Short names", "", *SHORT, ""]
    lines += ["| option | key | meaning |", "|---|---|---|"]
    for name, (dotted, text, _) in FLAT_NAMES.items():
        if dotted != "compile_cache":
            lines.append(f"| `--{name}` | `{dotted}` | {_escaped(text)} |")
    for prefix, section in all_sections():
        keys = section_keys(section, prefix)
        about = " ".join((inspect.getdoc(section) or "").split())
        lines += ["", f"## {prefix.rstrip('.') or 'The run'}", "", *textwrap.wrap(about, 118), ""]
        lines += ["| key | default | unit or choices | meaning |", "|---|---|---|---|"]
        for key in keys:
            cells = (f"`{key.path}`", f"`{key.default}`", key.unit, _escaped(key.meaning))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return text that stands in a cell of a table in Markdown."""
    return re.sub(r"([|<*])", r"\\\1", text)


if __name__ == "__main__":
    print(page())

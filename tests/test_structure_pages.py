"""What docs/design.md and CONTRIBUTING.md say about files, functions and limits is true."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import structure
from tests.support.structure import PACKAGE, REPOSITORY

DESIGN = (REPOSITORY / "docs/design.md").read_text("utf-8")


def walk(page: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield file and names, written as `name()`, of each row of the walk through the files."""
    section = re.search(r"^## A walk through the files\n(.*?)^## ", page, re.M | re.S)
    assert section is not None
    for file, text in re.findall(r"^\| `(\S+\.\w+)` \| (.*) \|$", section[1], re.M):
        folder = REPOSITORY if file.startswith("./") else REPOSITORY / PACKAGE
        yield folder / file, re.findall(r"`([\w.]+)\(\)`", text)


def undefined(names: list[str], source: str) -> list[str]:
    """Return the names, such as `function` or `Class.method`, that a source does not define."""
    return [
        name
        for name in names
        for part in name.split(".")
        if not re.search(rf"^\s*(def|class) {part}\b", source, re.M)
    ]


@pytest.mark.parametrize(
    ("path", "names"), walk(DESIGN), ids=lambda value: getattr(value, "stem", None)
)
def test_walk_names_what_the_files_define(path: Path, names: list[str]) -> None:
    assert names or path.suffix == ".yaml"
    assert undefined(names, path.read_text("utf-8")) == []


def test_a_name_that_a_file_does_not_define_is_found() -> None:
    source = "class Stream:\n    def batches(self):\n        pass\n\ndef read():\n    pass\n"
    assert undefined(["read", "Stream.batches", "Stream.rows", "write"], source) == [
        "Stream.rows",
        "write",
    ]


def test_limits_of_contributing_are_those_of_the_rules() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.search(r"^## Limits\n(.*?)^## ", text, re.M | re.S)
    assert rows is not None
    numbers = re.findall(r"^\| .* \| (?:below )?([\d.]+) \|$", rows[1], re.M)
    assert [float(number) for number in numbers] == [
        structure.MAX_FILE_LINES,
        structure.MAX_FUNCTION_LINES,
        structure.MAX_ENTRY_LINES,
        structure.MAX_SCRIPT_LINES,
        structure.MAX_LINE_LENGTH,
        structure.MAX_LOOSE_MODULES,
        structure.MAX_PARALLEL_PER_1000,
    ]

"""The table "Troubleshooting" of the README: each message is one that the package can print."""

import ast
import re
from collections.abc import Iterable, Iterator

from tests.support.structure import REPOSITORY

README = REPOSITORY / "README.md"
MESSAGES = 10


def table_cells(page: str) -> list[str]:
    """Return the first column of the table below the heading "Troubleshooting"."""
    section = re.search(r"^## Troubleshooting\n(.*?)^## ", page, re.M | re.S)
    assert section is not None
    return re.findall(r"^\| ([^|]*`[^|]*) \|", section[1], re.M)


def texts(source: str) -> Iterator[str]:
    """Yield every text of a Python file; "{}" stands for the values in a formatted one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [getattr(part, "value", "{}") for part in node.values]
            yield "".join(part if isinstance(part, str) else "{}" for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def unknown_words(cells: Iterable[str], sources: Iterable[str]) -> list[str]:
    """Return the quoted words of the cells that are in no text of the sources."""
    known = "\n".join(text for source in sources for text in texts(source))
    words = [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]
    return [word for word in words if word not in known]


def test_messages_are_those_of_the_package() -> None:
    cells = table_cells(README.read_text("utf-8"))
    assert len(cells) == MESSAGES
    paths = (REPOSITORY / "mindyolo_v4").rglob("*.py")
    sources = [path.read_text("utf-8") for path in paths if path.name != "__init__.py"]
    assert unknown_words(cells, sources) == []


def test_a_message_that_does_not_exist_is_found() -> None:
    page = (
        "## Troubleshooting\n\n| words | cause |\n|---|---|\n"
        "| `--save_dir`: `is not empty` | files |\n| `3 left`; `is full` | - |\n\n## More\n"
    )
    source = 'raise Error("--save_dir", f"is "\n    f"not empty {count} left")\n'
    assert unknown_words(table_cells(page), [source]) == ["3 left", "is full"]

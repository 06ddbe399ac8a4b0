"""Running commands in this process, and reading what a training has left."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from mindyolo_v4.command_line import run_command
from mindyolo_v4.formats import CARD, read_index


def command(main: Callable[[Sequence[str]], int], *argv: object) -> int:
    return run_command(main, [str(word) for word in argv])


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; none where it is not there yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tensor_bytes(path: Path) -> dict[str, bytes]:
    """Return every tensor of a checkpoint."""
    content = path.read_bytes()
    index = read_index(path)
    return {name: content[one.start : one.start + one.size] for name, one in index.items() if name != CARD}

"""Running commands in this process, and reading what a training has left."""

import contextlib
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mindyolo_v4.runtime.command import run_command


def command(main: Callable[[Sequence[str]], int], *argv: object) -> int:
    return run_command(main, [str(word) for word in argv])


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make a folder the current one: contextlib.chdir, which Python 3.10 does not have."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tensor_bytes(path: Path) -> dict[str, bytes]:
    """Return every tensor of a checkpoint that is undamaged."""
    from mindyolo_v4.checkpoint.file import Checkpoint  # loads MindSpore

    tensors = Checkpoint.open(path).file.tensors()
    return {name: value.tobytes() for name, value in tensors.items()}

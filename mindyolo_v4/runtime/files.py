"""A disk that is full: seen before anything is half written, and told with what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindyolo_v4.errors import FULL_DISK, UserError

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


def check_room(target: Path, count: int) -> None:
    """Raise OSError where the disk has no room for `count` bytes beside `target`.

    MindSpore would find out in the middle of its file, and tell it at length in its own log.
    """
    probe = unfinished_path(target)
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, count)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Raise UserError where what happens inside the `with` finds the disk of the run folder full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        remedy = "what was written before is whole; free some space and go on with the same command and --resume"
        raise UserError(folder, f"the disk is full ({error.strerror}): {remedy}") from error


def replace_text(path: Path, text: str, lasting: bool = False) -> None:
    """Write a text file: a reader finds the old one or the whole new one, never a part.

    `lasting`: it is on the disk before it takes the name, so that not even a machine that fails leaves a part.
    """
    unfinished = unfinished_path(path)
    try:
        unfinished.write_text(text, encoding="utf-8")
        if lasting:
            sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_path(path: Path) -> Path:
    """Return the name of a file that is not yet whole, with the ending that it will have."""
    return path.with_name(f".{path.stem}.unfinished{path.suffix}")


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed while it wrote has left in a run folder."""
    for path in folder.glob(".*.unfinished*"):
        path.unlink()

"""A disk that is full: seen before anything is half written, and told with what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindyolo_v4.schema.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last one: a limit of the process or the file system
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


def check_room(target: Path, count: int) -> None:
    """Raise OSError where the disk has no room for `count` bytes beside `target`.

    MindSpore would find out in the middle of its file, and tell it at length in its own log.
    """
    probe = target.with_name(f".{target.stem}.unfinished{target.suffix}")
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
        if error.errno not in _FULL:
            raise
        remedy = "what was written before is whole; free some space and go on with the same command and --resume"
        raise UserError(folder, f"the disk is full ({error.strerror}): {remedy}") from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file: a reader finds the old one or the whole new one, never a part."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed while it wrote has left in a run folder."""
    for path in folder.glob(".*.unfinished*"):
        path.unlink()

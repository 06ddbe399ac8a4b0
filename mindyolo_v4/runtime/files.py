"""The one writer of whole files, what files hold, and what happens when the disk is full."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

from mindyolo_v4.errors import FULL_DISK, UserError, require

_LONGEST_NAME = 200  # bytes; systems take 255, and something is added to it
_UNFINISHED = ".unfinished-"  # how the name of a folder that is being filled begins
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def whole_file(path: Path, size: int = 0) -> Iterator[Path]:
    """Yield the name to write to; after the block the file is called `path` and is on the disk.

    A reader finds the old file or the whole new one, never a part, even if the machine fails.

    Args:
        size: bytes for which the disk must have room before anything is written. MindSpore notices
            a full disk only in the middle of its file.

    Raises:
        OSError: there is no room, or the system refuses; it names `path`. The old file stays as it
            was.
    """
    if path.exists() and not path.is_file():  # a device, which a file would replace
        raise OSError(errno.EEXIST, "exists and is not a regular file", str(path))
    # A name of its own, since two processes may write the same file. Some writers want the suffix.
    own = f".{short_name(path.stem)}.{os.getpid()}.unfinished{path.suffix}"
    unfinished = path.with_name(own)
    try:
        mode = _mode_of(unfinished)
        if size:
            _require_room(unfinished, size)
        yield unfinished
        unfinished.chmod(mode)  # MindSpore makes its files read-only
        _sync(unfinished)
        unfinished.replace(path)
        _sync(path.parent)
    except OSError as error:
        names_another = error.filename and str(error.filename) != str(unfinished)
        if error.errno is None or names_another:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def is_free_folder(folder: Path) -> bool:
    """Tell whether nothing is there, or a folder that holds no more than an interrupted command."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(_UNFINISHED) for path in folder.iterdir())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill; after the block its content lies in `folder`, which was free.

    If the block fails, `folder` stays as it was.
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    is_there = folder.is_dir()
    parent = folder if is_there else folder.parent
    if is_there:
        for path in folder.glob(f"{_UNFINISHED}*"):
            rmtree(path)
    with TemporaryDirectory(prefix=_UNFINISHED, dir=parent) as name:
        unfinished = Path(name) / "set"
        unfinished.mkdir()
        yield unfinished
        if not is_there:
            unfinished.replace(folder)
            return
        for path in unfinished.iterdir():  # a mount or the working folder cannot be replaced
            path.replace(folder / path.name)


def require_writable(target: Path, source: Path) -> None:
    """Raise UserError where a file made of `source` cannot be `target`."""
    require(not target.is_dir(), target, "cannot be written", "a folder")
    require(target.parent.is_dir(), target, "cannot be written", "no such folder")
    is_source = target.exists() and target.samefile(source)
    require(not is_source, target, "is the file to read")


def short_name(name: str) -> str:
    """Return a name, cut if it is so long that the system would refuse a file of a longer one."""
    encoded = os.fsencode(name)
    is_long = len(encoded) > _LONGEST_NAME
    return encoded[:_LONGEST_NAME].decode("utf-8", "ignore") if is_long else name


def write_text(path: Path, text: str) -> None:
    """Write a text file as `whole_file` does; names in it that are not UTF-8 are escaped."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file as `whole_file` does."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds. Raises UserError where the file is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(path, "is damaged", type(content).__name__, "a JSON object")
    return content


def sha256_of(*paths: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, or of the bytes of several, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed while it wrote has left in a folder."""
    for path in folder.glob(".*.unfinished*"):
        path.unlink(missing_ok=True)


@contextmanager
def full_disk_as_user_error(folder: Path, remedy: str) -> Iterator[None]:
    """Raise UserError with the folder and how to go on where the block finds the disk full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        problem = f"the disk is full ({error.strerror}): {remedy}"
        raise UserError(error.filename or folder, problem) from error


def _mode_of(probe: Path) -> int:
    """Return the permissions that the system gives a new file, as the user's umask says."""
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _require_room(probe: Path, size: int) -> None:
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        probe.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

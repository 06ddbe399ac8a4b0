"""`run.lock`: one training at a time writes into a run folder.

The file tells process and host of its owner, who also holds it with `flock`. On some network file systems the latter
does nothing, so the words decide too: an owner on another host, or one of this host that still runs, is respected. No
library among the dependencies does both.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mindyolo_v4.distributed.guard import GONE, status_fields
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.device import any_rank
from mindyolo_v4.runtime.files import remove_unfinished

LOCK = "run.lock"
_held: set[int] = set()  # descriptors


def _let_go_in_child() -> None:
    """Close what a loader process has inherited: it may outlive its parent for a moment, but owns nothing."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


@contextmanager
def run_lock(folder: Path, rank: int, world_size: int) -> Iterator[list[str]]:
    """Hold the run folder for this training, all its devices; yield what the log should say of that.

    Raises:
        UserError: another training holds it, or may hold it, on every device.
    """
    notes: list[str] = []
    descriptor, refusal = -1, None
    if rank == 0:
        try:
            descriptor, notes = _take(folder)
        except UserError as error:
            refusal = error
    if any_rank(refusal is not None, world_size):
        raise refusal or UserError(folder, "rank 0 could not take it; its log says why")
    try:
        yield notes
    finally:
        if rank == 0:
            _release(folder, descriptor)


def start_time(pid: int) -> int | None:
    """Return when a process of this host began, in ticks since the machine did; None where there is none.

    A process that has ended and only waits to be noticed by its parent counts as none; where the system does not tell
    the time, 0.
    """
    if not Path("/proc/self/stat").exists():
        return 0 if _signals_reach(pid) else None
    state, *fields = status_fields(pid) or [""]
    return None if state in GONE else int(fields[18])


def _take(folder: Path) -> tuple[int, list[str]]:
    """Return the descriptor that holds the lock, and what the log should say."""
    path = folder / LOCK
    descriptor = _open_alone(path)
    try:
        held = _text(descriptor)
        notes = [_require_dead(path, held)] if held else []
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start_time": start_time(os.getpid()),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)
        os.fsync(descriptor)
    except (UserError, OSError):
        os.close(descriptor)
        raise
    _held.add(descriptor)
    remove_unfinished(folder)
    return descriptor, notes


def _require_dead(path: Path, held: str) -> str:
    """Return what to say of an owner that is no more. Raises UserError where it lives, or nobody can tell."""
    try:
        owner: dict[str, Any] = json.loads(held)
        pid, host, began = int(owner["pid"]), str(owner["host"]), owner["start_time"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            path, "is damaged; delete it if no training writes into its folder", held[:80]
        ) from error
    if host != socket.gethostname():
        problem = f"process {pid} on host {host} writes into this folder; if it is no longer there, delete this file"
        raise UserError(path, problem)
    if start_time(pid) == began and began is not None:
        raise UserError(path, f"process {pid} on this host ({host}) writes into this folder")
    return f"the run folder was left by process {pid} on this host ({host}), which is no more: taken over"


def _release(folder: Path, descriptor: int) -> None:
    if _is_still(folder / LOCK, descriptor):
        (folder / LOCK).unlink()
    _held.discard(descriptor)
    os.close(descriptor)


def _open_alone(path: Path) -> int:
    """Open the lock file, made if need be, and hold it with `flock`. Raises UserError where another process does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = _text(descriptor)
            os.close(descriptor)
            raise UserError(path, f"another training writes into this folder: {text}") from error
        except OSError:
            return descriptor  # a file system without such locks: the words alone decide
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 16, 0).decode("utf-8", "replace").strip()


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether the open file is still the one with that name: its owner may have deleted it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _signals_reach(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

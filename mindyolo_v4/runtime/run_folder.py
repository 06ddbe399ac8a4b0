"""The folder that a command writes into: its name, and the lock that keeps others out."""

import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout

from mindyolo_v4.distributed.guard import RECORDS
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.files import remove_unfinished
from mindyolo_v4.runtime.process import Process

LOCK = "run.lock"
RUNS = Path("runs")
_ATTEMPTS_S = 0.2  # of taking the lock, each 0.05 s


def make_run_folder(
    save_dir: str | None, default_name: str, runtime: Process, reuse_option: str, reuse: bool
) -> Path:
    """Return the run folder, made if need be: `save_dir`, or the next free runs/<default_name>-<n>.

    Args:
        reuse: take a folder that holds files already: `save_dir`, or else the latest of that name.
        reuse_option: what the user types for that.

    Raises:
        UserError: `save_dir` holds files and `reuse` is False.
    """
    ranks = runtime.ranks
    folder = ""
    try:
        if ranks.rank == 0:
            folder = str(_make_folder(save_dir, default_name, reuse_option, reuse))
    finally:
        folder = ranks.text_of_rank_0(folder)
    if not folder:
        raise UserError("--save_dir", "could not be made by rank 0")
    return Path(folder)


def require_run_folder(save_dir: str | None, default_name: str) -> Path:
    """Return the run folder to continue. Raises UserError where there is none."""
    latest = _latest(default_name)
    folder = latest if save_dir is None else Path(save_dir)
    if folder is None or not folder.is_dir():
        wanted = folder or RUNS / f"{default_name}-<n>"
        expected = "--save_dir FOLDER" if save_dir is None else None
        raise UserError("--resume", f"there is no run folder {wanted} to continue", None, expected)
    return folder


def share(folder: Path, runtime: Process) -> None:
    """Let the guards of all ranks meet in the run folder, apart from those of any other job."""
    ranks = runtime.ranks
    job = ranks.text_of_rank_0(uuid.uuid4().hex if ranks.rank == 0 else "")
    runtime.heartbeat.share(folder, job)


@contextmanager
def locked(folder: Path, runtime: Process) -> Iterator[list[str]]:
    """Hold the run folder for one training, all its devices, which share it from then on.

    Yields what to log of that.

    The lock is a file that names process and host of its owner, since locks of the operating system
    do nothing on some network file systems. An owner of this host that has ended is replaced.

    Raises:
        UserError: another training writes into the folder, or may do so, on every device.
    """
    path = folder / LOCK
    # filelock 4.1, the newest for Python 3.10, replaces a dead owner at the second attempt only.
    lock = SoftFileLock(path, timeout=_ATTEMPTS_S, thread_local=False)
    notes: list[str] = []
    refusal: UserError | None = None
    if runtime.ranks.rank == 0:
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        process, host = _owner(text)
        is_own_host = host == socket.gethostname()
        try:
            lock.acquire()
        except Timeout:
            refusal = _refusal(path, process, host, is_own_host)
        else:
            remove_unfinished(folder)
            shutil.rmtree(folder / RECORDS, ignore_errors=True)  # of a run that was killed
            if host:
                notes.append(f"process {process} left this run folder and has ended: taken over")
    if runtime.ranks.any(refusal is not None):
        raise refusal or UserError(folder, "rank 0 could not take it; its log says why")
    try:
        share(folder, runtime)
        yield notes
    finally:
        if lock.is_locked:
            lock.release()


def leave(folder: Path) -> None:
    """Remove the lock and unfinished files of a process that ends without leaving its blocks."""
    (folder / LOCK).unlink(missing_ok=True)
    remove_unfinished(folder)


def _owner(text: str) -> tuple[int, str]:
    """Return process and host in the text of a lock; (0, "") where it names none."""
    match = re.match(r"(\d{1,9})\n(\S+)\n", text)
    return (int(match[1]), match[2]) if match else (0, "")


def _refusal(path: Path, process: int, host: str, is_own_host: bool) -> UserError:
    if not host:
        return UserError(path, "is damaged; delete it if no training writes into its folder")
    if is_own_host:
        return UserError(path, f"process {process} on this host ({host}) writes into this folder")
    owner = f"process {process} on host {host} writes into this folder"
    return UserError(path, f"{owner}; if it is no longer there, delete this file")


def _make_folder(save_dir: str | None, default_name: str, reuse_option: str, reuse: bool) -> Path:
    if save_dir is None:
        latest = _latest(default_name)
        if reuse and latest is not None:
            return latest
        return _make_next(default_name)
    folder = Path(save_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError("--save_dir", "is a file", str(folder), "a folder")
    if folder.is_dir() and not reuse and next(folder.iterdir(), None) is not None:
        expected = f"an empty or new folder, or {reuse_option}"
        raise UserError("--save_dir", "is not empty", str(folder), expected)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _latest(name: str) -> Path | None:
    numbers = _numbers(name)
    return RUNS / f"{name}-{numbers[-1]}" if numbers else None


def _numbers(name: str) -> list[int]:
    pattern = re.compile(re.escape(name) + r"-(\d+)$")
    matches = (pattern.match(path.name) for path in RUNS.glob("*"))
    return sorted(int(match[1]) for match in matches if match)


def _make_next(name: str) -> Path:
    number = max(_numbers(name), default=0)
    while True:  # several commands may start at once
        number += 1
        folder = RUNS / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder

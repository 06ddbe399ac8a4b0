"""Guards of a process that is one of several: it ends when its launcher does, or when the devices stop getting on.

A rank that dies or hangs leaves the others waiting in a collective for ever. So a thread of every rank counts what its
main thread gets done, tells it in a small file of the run folder, and reads the files of the others. Where the nodes
share no folder, each judges by itself.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

EXIT_STATUS = 4
RECORDS = ".ranks"  # folder of the records, in the run folder
TICK_S, READ_S = 0.1, 1.0  # own host's processes are looked at so often, files so often


@dataclass(frozen=True)
class Record:
    """What a rank tells the others."""

    rank: int
    process: int
    place: str  # host and process namespace
    beats: int = 0  # pieces of work done; equal on all ranks at the same point of the program
    doing: str = "starting"
    allowed_s: float = 0.0  # how long `beats` may stand still
    error: str = ""


class Watch:
    """One rank's guard; without `start` every call does nothing."""

    def __init__(self) -> None:
        self.active = False
        self._done = threading.Event()

    def start(self, rank: int, world_size: int, hang_s: float, pause_s: float) -> None:
        """Begin to watch this process; the others follow when the run folder is known (`share`)."""
        self._own = Record(rank, os.getpid(), place(), allowed_s=pause_s)
        self._world_size, self._hang_s, self._pause_s = world_size, hang_s, pause_s
        self._folder: Path | None = None
        self._beaten = time.monotonic()
        self._others: dict[int, tuple[Record, float]] = {}  # a record, and when it was last seen to move
        self.active = True
        self._done.clear()
        threading.Thread(target=self._run, daemon=True, name="watch").start()

    def share(self, folder: Path) -> None:
        """Tell and read progress in the run folder, to which rank_<r>.log belongs too."""
        if self.active:
            (folder / RECORDS).mkdir(parents=True, exist_ok=True)
            self._folder = folder
            self._write()

    def beat(self) -> None:
        """Count a piece of work; the next one may take `hang_s`, or twice as long as this one did."""
        if self.active:
            now = time.monotonic()
            allowed = max(self._hang_s, 2 * (now - self._beaten))
            self._move("training", allowed, now)

    @contextmanager
    def pause(self, doing: str) -> Iterator[None]:
        """Allow the longer time for what happens inside."""
        if self.active:
            self._move(doing, self._pause_s, time.monotonic())
            self._write()
        yield
        self.beat()
        if self.active:
            self._write()

    def failed(self, error: str) -> None:
        """Tell the others that this rank ends with an error, and give them the time to read it."""
        if self.active:
            self._log(error)
            self._own = Record(**(asdict(self._own) | {"error": error}))
            self._write()
            self._done.set()
            time.sleep(2 * READ_S)

    def done(self) -> None:
        """Tell the others that this rank is through: its end is no failure."""
        if self.active:
            self._done.set()
            self.active = False
            if self._folder is not None:
                self._path(self._own.rank).unlink(missing_ok=True)

    def _move(self, doing: str, allowed_s: float, now: float) -> None:
        beats = self._own.beats + 1
        self._own = Record(**(asdict(self._own) | {"beats": beats, "doing": doing, "allowed_s": allowed_s}))
        self._beaten = now

    def _path(self, rank: int) -> Path:
        assert self._folder is not None
        return self._folder / RECORDS / f"{rank}.json"

    def _write(self) -> None:
        if self._folder is None:
            return
        path = self._path(self._own.rank)
        unfinished = path.with_suffix(f".{threading.get_ident()}")
        try:
            unfinished.write_text(json.dumps(asdict(self._own)), encoding="utf-8")
            unfinished.replace(path)
        except OSError:  # a full disk is the training's to report
            unfinished.unlink(missing_ok=True)

    def _run(self) -> None:
        written, read = -1, 0.0
        while not self._done.wait(TICK_S):
            now = time.monotonic()
            if self._folder is not None and now - read >= READ_S:
                read = now
                if written != self._own.beats:
                    written = self._own.beats
                    self._write()
                self._read(now)
            reason = self._failure() or self._standstill(now)
            if reason and not self._done.is_set():
                self._end(reason)

    def _read(self, now: float) -> None:
        for rank in range(self._world_size):
            if rank == self._own.rank:
                continue
            record = read_record(self._path(rank))
            known = self._others.get(rank)
            if record is None:
                self._others.pop(rank, None)  # through, or not yet there
            elif known is None or known[0] != record:
                self._others[rank] = record, now

    def _failure(self) -> str:
        """Return which other rank has told an error or died; "" if none."""
        for rank, (record, _) in sorted(self._others.items()):
            if record.error:
                return f"rank {rank} failed: {record.error}; see {self._log_of(rank)}"
            if record.place == self._own.place and process_state(record.process) in ("", "Z", "X"):
                last = read_record(self._path(rank))
                if last is not None and not last.error:
                    return f"rank {rank} (process {record.process}) has died; see {self._log_of(rank)}"
        return ""

    def _standstill(self, now: float) -> str:
        """Return which rank holds the others up, if none has got on for as long as it may; else ""."""
        still_s = now - self._beaten
        others = self._others.values()
        if still_s < self._own.allowed_s or any(now - seen < record.allowed_s for record, seen in others):
            return ""
        what = f"no progress for {still_s:.0f} s ({self._own.doing}, train.hang_seconds {self._hang_s:g})"
        behind = min(others, key=lambda pair: (pair[0].beats, pair[1]), default=(self._own, now))[0]
        if behind.beats > self._own.beats or behind is self._own:
            return (
                f"rank {self._own.rank}: {what}; it is the last itself, or the others are on nodes that share no folder"
            )
        stopped = " is stopped and" if self._is_stopped(behind) else ""
        return (
            f"{what}: rank {behind.rank} (process {behind.process}){stopped} is behind; see {self._log_of(behind.rank)}"
        )

    def _is_stopped(self, record: Record) -> bool:
        return record.place == self._own.place and process_state(record.process) in ("T", "t")

    def _log_of(self, rank: int) -> str:
        return f"{self._folder}/rank_{rank}.log and msrun's worker_{rank}.log"

    def _log(self, line: str) -> None:
        """Add a line to this rank's log without the logger, whose lock the main thread may hold."""
        if self._folder is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            with (self._folder / f"rank_{self._own.rank}.log").open("a", encoding="utf-8") as file:
                file.write(f"{stamp} ERROR {line}\n")

    def _end(self, reason: str) -> None:
        print(f"error: {reason}", file=sys.stderr, flush=True)
        self._log(reason)
        kill_children()
        os._exit(EXIT_STATUS)


WATCH = Watch()  # of this process


def place() -> str:
    """Return what a process number is valid in: this host's process namespace."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink() if namespace.is_symlink() else ''}"


def process_state(process: int) -> str:
    """Return a process's state letter (R, S, D, T, Z ...), "" where there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def read_record(path: Path) -> Record | None:
    """Return the record in a file; None where there is none, or another's rest."""
    try:
        return Record(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def kill_children() -> None:
    """End the loader processes, which would outlive a process that leaves without clean-up."""
    for task in Path("/proc/self/task").glob("*/children"):
        for child in task.read_text("utf-8").split():
            try:
                os.kill(int(child), signal.SIGKILL)
            except OSError:
                continue


def launcher(parent: int, variables: Mapping[str, str]) -> int | None:
    """Return the process that this one must not outlive: an msrun that waits for its workers; None without one.

    msrun ends at once unless it was given --join=True, and its workers are meant to go on.
    """
    try:
        words = Path(f"/proc/{parent}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return None
    options = " ".join(words)
    waits = "--join=True" in options or "--join True" in options
    return parent if "MS_ROLE" in variables and waits and any("msrun" in word for word in words[:3]) else None


def follow_launcher(grace_s: float) -> None:
    """End this process when its launcher has: by SIGTERM, and `grace_s` later for good."""
    parent = launcher(os.getppid(), os.environ)
    if parent is not None:
        threading.Thread(target=_follow, args=(parent, grace_s), daemon=True, name="launcher").start()


def _follow(parent: int, grace_s: float) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    print(f"error: msrun (process {parent}) has ended, and so does this process", file=sys.stderr, flush=True)
    if callable(signal.getsignal(signal.SIGTERM)):  # whoever handles it saves first
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
    elif os.environ.get("MS_ROLE") == "MS_SCHED":
        time.sleep(grace_s)  # the workers need the scheduler until they are through
    kill_children()
    os._exit(EXIT_STATUS)

"""The guard beside each process of a distributed job.

    python -I guard.py <process> <launcher> <hang seconds>

It reads from its standard input how its rank makes progress, and writes that to a small file of the
run folder, where the other guards read it. It ends its rank when the launcher has ended, when
another rank has failed or died, or when no rank makes progress. Where the machines share no folder,
each guard judges by its own rank. It is a program: it imports nothing of this package.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import psutil

RECORDS = ".ranks"  # in the run folder: a folder per job with the records of its ranks
TICK_S = 0.1  # between two looks at the standard input
LOOK_S = 0.5  # between two looks at the processes
READ_PER_LOOK = 16  # records, on average: the shared folder answers all guards
WRITTEN_S = 1.5  # after which a guard has certainly written what its rank has reported
SCHEDULER_STAYS_S = 10.0  # without a worker on its machine
STOPPED_S = 10.0  # MindSpore gives a stopped process up after 30 s

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Record:
    """What a rank reports to the others."""

    process: int
    host: str
    rank: int = -1
    beats: int = 0  # pieces of work done; equal on all ranks at the same point of the program
    doing: str = ""
    allowed_s: float = 0.0  # how long `beats` may stand still
    error: str = ""


class Guard:
    """One rank's guard."""

    def __init__(self, process: int, launcher: int, hang_s: float) -> None:
        self.own = Record(process, socket.gethostname())
        self.hang_s = hang_s
        self.launcher = (
            launcher if is_waiting_msrun(ask(launcher, psutil.Process.cmdline, [])) else None
        )
        self.world_size = 0
        self.done = False
        self.folder: Path | None = None
        self.job = ""  # a second one may have come to the same folder
        self.others: dict[int, tuple[Record, float]] = {}  # a record, and when it last changed
        self.scheduler: int | None = None  # of the job, where this machine has it
        self.progressed_s = self.ran_s = self.accompanied_s = time.monotonic()
        self.has_met_workers = False
        self.received = b""
        self.is_open = True  # the standard input

    def listen(self, wait_s: float) -> bool:
        """Wait for a report of the rank and read it; tell whether there was anything."""
        if not self.is_open or not select.select([sys.stdin.buffer], [], [], wait_s)[0]:
            return False
        part = os.read(sys.stdin.fileno(), 65536)
        self.is_open = bool(part)
        *lines, self.received = (self.received + part).split(b"\n")
        for line in lines:
            self.handle(line, time.monotonic())
        return self.is_open

    def handle(self, line: bytes, now: float) -> None:
        """Apply a report of the rank."""
        facts = json.loads(line)
        self.world_size = facts.pop("world_size", self.world_size)
        self.done = facts.pop("done", self.done)
        folder = facts.pop("folder", None)
        self.job = facts.pop("job", self.job)
        if "rank" in facts and self.launcher is not None:
            self.scheduler = next(filter(is_scheduler, children_of(self.launcher)), None)
        is_new = folder is not None or facts.get("doing", self.own.doing) != self.own.doing
        self.own = replace(self.own, **facts)
        self.progressed_s = now
        if folder is not None:
            self.folder = Path(folder)
        if self.own.error:
            self.log(self.own.error)
        if self.done:
            self.leave()
        elif is_new or self.own.error:
            self.write()

    def reason(self, now: float) -> str:
        """Return why the rank must end now; "" if it need not."""
        if self.done or self.own.error or self.world_size < 2:
            return ""
        return self.failure() or self.stopped(now) or self.standstill(now)

    def read(self, now: float) -> None:
        """Read what the other guards have written."""
        for rank in range(self.world_size if self.folder is not None else 0):
            if rank == self.own.rank:
                continue
            record = read_record(self.path(rank))
            known = self.others.get(rank)
            if record is None:
                self.others.pop(rank, None)  # finished, or not yet there
            elif known is None or known[0] != record:
                self.others[rank] = record, now

    def failure(self) -> str:
        """Return which other rank has reported an error or died."""
        for rank, (record, _) in sorted(self.others.items()):
            if record.error:
                return f"rank {rank} failed: {record.error}; see {self.log_of(rank)}"
        return ""

    def stopped(self, now: float) -> str:
        """Return that the own process is stopped, if it has been for a while."""
        if ask(self.own.process, psutil.Process.status, "") != psutil.STATUS_STOPPED:
            self.ran_s = now
        if now - self.ran_s < min(self.hang_s, STOPPED_S):
            return ""
        self.report_error(f"process {self.own.process} is stopped (SIGSTOP)")
        return self.own.error

    def standstill(self, now: float) -> str:
        """Return which rank holds the others up, if none has made progress in its time."""
        still_s = now - self.progressed_s
        if still_s < self.own.allowed_s:
            return ""
        self.read(now)  # the last reading may be seconds old
        others = self.others.values()
        if any(now - changed_s < record.allowed_s for record, changed_s in others):
            return ""
        limit = f"train.hang_seconds {self.hang_s:g}"
        what = f"no progress for {still_s:.0f} s ({self.own.doing}; {limit})"
        behind = min(others, key=lambda pair: (pair[0].beats, pair[1]), default=(self.own, now))[0]
        if behind is self.own or behind.beats > self.own.beats:
            own = f"rank {self.own.rank} (process {self.own.process})"
            return f"{what}: {own} is behind, as far as it can see"
        slowest = f"rank {behind.rank} (process {behind.process})"
        return f"{what}: {slowest} is behind; see {self.log_of(behind.rank)}"

    def orphaned(self, now: float) -> str:
        """Return what the process has lost that it must not outlive: its launcher or, for a
        scheduler, its last worker."""
        if self.launcher is None:
            return ""
        if ask(self.own.process, psutil.Process.ppid, self.launcher) != self.launcher:
            return f"msrun (process {self.launcher}) has ended, and so does this process"
        if os.environ.get("MS_ROLE") == "MS_SCHED":
            children = filter(is_running, children_of(self.launcher))
            if any(child != self.own.process for child in children):
                self.has_met_workers = True
                self.accompanied_s = now
            elif self.has_met_workers and now - self.accompanied_s > SCHEDULER_STAYS_S:
                return "no worker of this machine is left, and so the scheduler ends"
        return ""

    def path(self, rank: int) -> Path:
        """Return where a rank's record lies."""
        assert self.folder is not None
        return self.folder / RECORDS / self.job / f"{rank}.json"

    def write(self) -> None:
        """Write the record for the other guards; a full disk is the training's to report."""
        if self.folder is not None and not self.done:
            with suppress(OSError):
                path = self.path(self.own.rank)
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(asdict(self.own)), encoding="utf-8")
                unfinished.replace(path)

    def leave(self) -> None:
        """Delete the record."""
        if self.folder is not None:
            with suppress(OSError):  # others are still there, or were faster
                path = self.path(self.own.rank)
                path.unlink(missing_ok=True)
                path.parent.rmdir()
                (self.folder / RECORDS).rmdir()

    def log_of(self, rank: int) -> str:
        """Return where a rank's messages are."""
        return f"{self.folder}/rank_{rank}.log and msrun's worker_{rank}.log"

    def log(self, line: str) -> None:
        """Add a line to the rank's log."""
        if self.folder is None:
            return
        path = self.folder / f"rank_{self.own.rank}.log"
        with suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} ERROR {line}\n")

    def report_error(self, error: str) -> None:
        """Let the other guards know."""
        self.own = replace(self.own, error=error)
        self.write()

    def report_loss(self) -> None:
        """Report a rank that ended without a report of its own."""
        if self.done or self.own.error or self.own.rank < 0:
            return
        cause = "killed, out of memory, or ended by MindSpore"
        error = "it has ended without reporting an error"
        if self.scheduler is not None and not is_running(self.scheduler):
            scheduler = f"the scheduler (process {self.scheduler}; scheduler.log)"
            cause = f"ended by MindSpore, since {scheduler} has died"
            error = "the scheduler has died, and MindSpore has ended it"
        process = f"process {self.own.process} has ended without reporting an error"
        self.say(f"{process}: {cause} (worker_{self.own.rank}.log)")
        self.report_error(error)

    def say(self, line: str) -> None:
        """Print a line on the rank's console and add it to its log."""
        print(f"error: {line}", file=sys.stderr, flush=True)
        self.log(line)

    def end(self, reason: str, grace_s: float) -> None:
        """End the process: with SIGTERM first where there is a grace, so that it can save."""
        self.say(reason)
        process = self.own.process
        until_s = time.monotonic() + grace_s
        if grace_s > 0 and os.environ.get("MS_ROLE") != "MS_SCHED":
            os.kill(process, signal.SIGTERM)
        while time.monotonic() < until_s and is_running(process):
            time.sleep(TICK_S)
        for child in children_of(process):
            if child != os.getpid():
                kill(child)  # loader processes would stay
        kill(process)

    def watch(self) -> None:
        """Watch until the process has ended."""
        looked_s = read_s = 0.0
        written = 0
        while is_running(self.own.process):
            self.listen(TICK_S)
            now = time.monotonic()
            if now - looked_s < LOOK_S:
                continue
            looked_s = now
            if written != self.own.beats:
                written = self.own.beats
                self.write()
            if now - read_s >= read_interval_s(self.world_size):
                read_s = now
                self.read(now)
            if orphan := self.orphaned(now):
                self.report_error(orphan)
                self.end(orphan, self.hang_s)
            elif reason := self.reason(now):
                self.end(reason, 0.0)
                self.done = True
        while self.listen(0.0):  # its last reports
            pass
        self.report_loss()


def ask(process: int, question: Callable[[psutil.Process], Answer], default: Answer) -> Answer:
    """Return what psutil says of a process, `default` where it has ended or may not be asked."""
    try:
        return question(psutil.Process(process))
    except psutil.Error:
        return default


def is_running(process: int) -> bool:
    """Tell whether a process has not ended; one that only its parent has not noticed has."""
    return ask(process, psutil.Process.status, "") not in ("", "zombie", "dead")


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started."""
    children = ask(process, psutil.Process.children, list[psutil.Process]())
    return [child.pid for child in children]


def is_scheduler(process: int) -> bool:
    """Tell whether a process is an msrun's scheduler."""
    return ask(process, psutil.Process.environ, dict[str, str]()).get("MS_ROLE") == "MS_SCHED"


def is_waiting_msrun(words: list[str]) -> bool:
    """Tell whether a command line is an msrun's that waits for its workers.

    Without --join=True it ends at once and its workers go on.
    """
    options = " ".join(words)
    is_msrun = any("msrun" in word for word in words[:2])  # an interpreter may stand before it
    return is_msrun and ("--join=True" in options or "--join True" in options)


def kill(process: int) -> None:
    """End a process at once, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def read_interval_s(world_size: int) -> float:
    """Return the seconds between two readings of all records."""
    return LOOK_S * max(1.0, world_size / READ_PER_LOOK)


def read_record(path: Path) -> Record | None:
    """Return the record in a file; None where there is none."""
    try:
        return Record(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the rank
        signal.signal(number, signal.SIG_IGN)
    Guard(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])).watch()

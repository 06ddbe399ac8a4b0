"""The guard beside each process of a distributed job: python -I guard.py <process> <its launcher> <hang seconds>.

It reads from its standard input how its rank gets on, and tells it to the other guards in a small file of the run
folder. It ends its rank when the launcher has ended, when another rank has failed or died, or when no rank gets on.
Where the nodes share no folder, each guard judges by itself. It is a program and imports the standard library alone.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

RECORDS = ".ranks"  # folder of the records, in the run folder
TICK_S, READ_S = 0.1, 0.5  # processes of this host are looked at so often, files so often
TOLD_S = 2.0  # after which every guard has read what a rank has written
SCHEDULER_STAYS_S = 10.0  # without a worker on its machine
STOPPED_S = 10.0
GONE = ("", "Z", "X")  # states of a process that has ended


@dataclass(frozen=True)
class Record:
    """What a rank tells the others."""

    process: int
    place: str  # host and process namespace
    rank: int = -1
    beats: int = 0  # pieces of work done; equal on all ranks at the same point of the program
    doing: str = ""
    allowed_s: float = 0.0  # how long `beats` may stand still
    error: str = ""


class Guard:
    """One rank's guard."""

    def __init__(self, process: int, launcher: int, hang_s: float) -> None:
        self.own = Record(process, place())
        self.hang_s, self.world_size, self.done = hang_s, 0, False
        self.launcher = launcher if waits_for_workers(launcher) else None
        self.folder: Path | None = None
        self.others: dict[
            int, tuple[Record, float]
        ] = {}  # a record, and when it was last seen to move
        self.moved = self.accompanied = self.ran = time.monotonic()
        self.met = False
        self.heard, self.listening = b"", True
        self.tails: list[int] = []  # of the launcher, which would outlive it
        self.scheduler: int | None = None  # of the job, where this machine has it

    def listen(self, wait_s: float) -> bool:
        """Wait for what the rank says and take it in; tell whether there was anything."""
        if not select.select([sys.stdin.buffer] if self.listening else [], [], [], wait_s)[0]:
            return False
        part = os.read(sys.stdin.fileno(), 65536)
        self.listening = bool(part)
        *lines, self.heard = (self.heard + part).split(b"\n")
        for line in lines:
            self.hear(line, time.monotonic())
        return self.listening

    def hear(self, line: bytes, now: float) -> None:
        """Take in what the rank says."""
        facts = json.loads(line)
        self.world_size = facts.pop("world_size", self.world_size)
        self.done = facts.pop("done", self.done)
        folder = facts.pop("folder", None)
        if "rank" in facts and self.launcher is not None:
            children = children_of(self.launcher)
            self.tails = [child for child in children if is_tail(child)]
            self.scheduler = next((child for child in children if is_scheduler(child)), None)
        doing = self.own.doing
        self.own = replace(self.own, **facts)
        self.moved = now
        if folder is not None:
            self.folder = Path(folder)
            (self.folder / RECORDS).mkdir(parents=True, exist_ok=True)
        if self.own.error:
            self.log(self.own.error)
        if self.done:
            self.leave()
        elif folder is not None or self.own.error or doing != self.own.doing:
            self.write()

    def reason(self, now: float) -> str:
        """Return why the rank must end now; "" if it need not."""
        if self.done or self.own.error or self.world_size < 2:
            return ""
        return self.failure() or self.stopped(now) or self.standstill(now)

    def read(self, now: float) -> None:
        """Read what the other guards have written."""
        for rank in range(self.world_size if self.folder is not None else 0):
            if rank != self.own.rank:
                record, known = read_record(self.path(rank)), self.others.get(rank)
                if record is None:
                    self.others.pop(rank, None)  # through, or not yet there
                elif known is None or known[0] != record:
                    self.others[rank] = record, now

    def failure(self) -> str:
        """Return which other rank has told an error or died."""
        for rank, (record, _) in sorted(self.others.items()):
            if record.error:
                return f"rank {rank} failed: {record.error}; see {self.log_of(rank)}"
        return ""

    def stopped(self, now: float) -> str:
        """Return that the own process is stopped, if it has been for a while; MindSpore loses it after 30 s."""
        if process_state(self.own.process) not in ("T", "t"):
            self.ran = now
        if now - self.ran < min(self.hang_s, STOPPED_S):
            return ""
        self.own = replace(self.own, error=f"process {self.own.process} is stopped (SIGSTOP)")
        self.write()
        return self.own.error

    def standstill(self, now: float) -> str:
        """Return which rank holds the others up, if none has got on for as long as it may."""
        still_s, others = now - self.moved, self.others.values()
        if still_s < self.own.allowed_s or any(
            now - seen < record.allowed_s for record, seen in others
        ):
            return ""
        what = f"no progress for {still_s:.0f} s ({self.own.doing}; train.hang_seconds {self.hang_s:g})"
        behind = min(others, key=lambda pair: (pair[0].beats, pair[1]), default=(self.own, now))[0]
        if behind is self.own or behind.beats > self.own.beats:
            return f"{what}: rank {self.own.rank} (process {self.own.process}) is behind, as far as it can see"
        return f"{what}: rank {behind.rank} (process {behind.process}) is behind; see {self.log_of(behind.rank)}"

    def orphaned(self, now: float) -> str:
        """Return what the process has lost that it must not outlive: its launcher, a scheduler its last worker."""
        if self.launcher is None:
            return ""
        if parent_of(self.own.process) not in (self.launcher, None):
            for tail in filter(is_tail, self.tails):
                with suppress(ProcessLookupError):
                    os.kill(tail, signal.SIGKILL)
            return f"msrun (process {self.launcher}) has ended, and so does this process"
        if os.environ.get("MS_ROLE") == "MS_SCHED":
            if has_other_child(self.launcher, self.own.process):
                self.met, self.accompanied = True, now
            elif self.met and now - self.accompanied > SCHEDULER_STAYS_S:
                return "no worker of this machine is left, and so the scheduler ends"
        return ""

    def path(self, rank: int) -> Path:
        """Return where a rank's record lies."""
        assert self.folder is not None
        return self.folder / RECORDS / f"{rank}.json"

    def write(self) -> None:
        """Tell the other guards; a full disk is the training's to report."""
        if self.folder is not None and not self.done:
            with suppress(OSError):
                unfinished = self.path(self.own.rank).with_suffix(".unfinished")
                unfinished.write_text(json.dumps(asdict(self.own)), encoding="utf-8")
                unfinished.replace(self.path(self.own.rank))

    def leave(self) -> None:
        """Take the record away."""
        if self.folder is not None:
            with suppress(OSError):  # others are still there, or were faster
                self.path(self.own.rank).unlink(missing_ok=True)
                (self.folder / RECORDS).rmdir()

    def log_of(self, rank: int) -> str:
        """Return where to read what a rank has said."""
        return f"{self.folder}/rank_{rank}.log and msrun's worker_{rank}.log"

    def log(self, line: str) -> None:
        """Add a line to the rank's log."""
        if self.folder is not None:
            with (
                suppress(OSError),
                (self.folder / f"rank_{self.own.rank}.log").open("a", encoding="utf-8") as file,
            ):
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} ERROR {line}\n")

    def say(self, line: str) -> None:
        """Tell the reason on the rank's console and in its log."""
        print(f"error: {line}", file=sys.stderr, flush=True)
        self.log(line)

    def lost(self) -> None:
        """Tell of a rank that ended without a word."""
        if not self.done and not self.own.error and self.own.rank >= 0:
            cause, told = (
                "killed, out of memory, or ended by MindSpore",
                "it has died without a word",
            )
            if self.scheduler is not None and process_state(self.scheduler) in GONE:
                cause = f"ended by MindSpore, since the scheduler (process {self.scheduler}; scheduler.log) has died"
                told = "the scheduler has died, and MindSpore has ended it"
            self.say(
                f"process {self.own.process} has died without a word: {cause} (worker_{self.own.rank}.log)"
            )
            self.own = replace(self.own, error=told)
            self.write()

    def end(self, reason: str, grace_s: float) -> None:
        """End the process: with SIGTERM first where there is a grace, for those who save then."""
        self.say(reason)
        process, until = self.own.process, time.monotonic() + grace_s
        if grace_s > 0 and os.environ.get("MS_ROLE") != "MS_SCHED":
            os.kill(process, signal.SIGTERM)
        while time.monotonic() < until and process_state(process) not in GONE:
            time.sleep(TICK_S)
        with suppress(ProcessLookupError):
            for child in children_of(process):
                if child != os.getpid():
                    os.kill(child, signal.SIGKILL)  # loader processes would stay
            os.kill(process, signal.SIGKILL)


def place() -> str:
    """Return what a process number is valid in: this host's process namespace."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink() if namespace.is_symlink() else ''}"


def status_fields(process: int) -> list[str]:
    """Return the fields of /proc/<process>/stat from the state on; none where there is no such process."""
    try:
        return (
            Path(f"/proc/{process}/stat")
            .read_text("utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return []


def process_state(process: int) -> str:
    """Return a process's state letter (R, S, D, T, Z ...), "" where there is no such process."""
    return next(iter(status_fields(process)), "")


def parent_of(process: int) -> int | None:
    """Return a process's parent; None where there is no such process."""
    fields = status_fields(process)
    return int(fields[1]) if fields else None


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text("utf-8").split())
    return found


def has_other_child(parent: int, process: int) -> bool:
    """Tell whether a process has another running child than the one named."""
    return any(
        child != process and process_state(child) not in GONE for child in children_of(parent)
    )


def waits_for_workers(launcher: int) -> bool:
    """Tell whether a process is an msrun that waits: without --join=True it ends at once and its workers go on."""
    try:
        words = (
            Path(f"/proc/{launcher}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        )
    except OSError:
        return False
    return is_waiting_msrun(words)


def is_waiting_msrun(words: list[str]) -> bool:
    """Tell whether a command line is that of an msrun with --join=True; an interpreter may stand before it."""
    options = " ".join(words)
    return any("msrun" in word for word in words[:2]) and (
        "--join=True" in options or "--join True" in options
    )


def is_scheduler(process: int) -> bool:
    """Tell whether a process is an msrun's scheduler."""
    try:
        return b"MS_ROLE=MS_SCHED" in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def is_tail(process: int) -> bool:
    """Tell whether a process shows the end of a log, as msrun has one do for each worker."""
    try:
        return b"tail\0-f\0" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def read_record(path: Path) -> Record | None:
    """Return the record in a file; None where there is none."""
    try:
        return Record(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def main(process: int, launcher: int, hang_s: float) -> None:
    """Watch until the process is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the rank
        signal.signal(number, signal.SIG_IGN)
    guard = Guard(process, launcher, hang_s)
    looked, written = 0.0, 0
    while process_state(process) not in GONE:
        guard.listen(TICK_S)
        now = time.monotonic()
        if now - looked >= READ_S:
            looked = now
            if written != guard.own.beats:
                written = guard.own.beats
                guard.write()
            guard.read(now)
            if orphan := guard.orphaned(now):
                guard.own = replace(guard.own, error=orphan)
                guard.write()
                guard.end(orphan, hang_s)
            elif reason := guard.reason(now):
                guard.end(reason, 0.0)
                guard.done = True
    while guard.listen(0.0):  # its last words
        pass
    guard.lost()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))

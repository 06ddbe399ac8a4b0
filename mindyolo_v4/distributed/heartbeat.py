"""What a process that is one of several reports to its guard: its progress, its failure, its end.

The guard (guard.py) is a process of its own, since a rank that waits in a collective may hold
Python's lock: then no other thread of it runs.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindyolo_v4.distributed import guard
from mindyolo_v4.errors import StoppedError, error_line


class Heartbeat:
    """One process's line to its guard; without `start` every call does nothing.

    As a context manager it reports how the block ended.
    """

    def __init__(self) -> None:
        self._guard: subprocess.Popen[bytes] | None = None
        self._world_size = 1
        self._beats = 0
        self._work = "training"
        self._since_s: float | None = None  # of the piece of work; None: compilation is part of it
        self._took_s: dict[str, float] = {}  # the last piece of each kind of work, without pauses
        self._hang_s = 0.0
        self._pause_s = 0.0

    def start(self, hang_s: float, pause_s: float) -> None:
        """Start the guard, which from now on ends this process when its launcher has ended."""
        self._hang_s = hang_s
        self._pause_s = pause_s
        words = [guard.__file__, str(os.getpid()), str(os.getppid()), str(hang_s)]
        self._guard = subprocess.Popen([sys.executable, "-I", *words], stdin=subprocess.PIPE)
        assert self._guard.stdin is not None
        os.set_blocking(self._guard.stdin.fileno(), False)

    def join(self, rank: int, world_size: int) -> None:
        """Say which of how many this process is; from now on it must make progress."""
        self._world_size = world_size
        self._report(rank=rank, world_size=world_size, doing="starting", allowed_s=self._pause_s)

    def share(self, folder: Path, job: str) -> None:
        """Name the run folder, where the guards of a job meet and where rank_<r>.log lies."""
        self._report(folder=str(folder.resolve()), job=job)

    def beat(self) -> None:
        """Count a piece of work; the next may take train.hang_seconds, or twice as long as it."""
        now_s = time.monotonic()
        if self._since_s is not None:
            self._took_s[self._work] = now_s - self._since_s
        self._go_on(now_s)

    def expect(self, doing: str) -> None:
        """Allow train.pause_seconds until the next beat, whose piece of work is not measured."""
        self._since_s = None
        self._advance(doing, self._pause_s)

    @contextmanager
    def pause(self, doing: str) -> Iterator[None]:
        """Allow train.pause_seconds inside the block, then as long for the work as before it."""
        began_s = time.monotonic()
        self._advance(doing, self._pause_s)
        yield
        paused_s = time.monotonic() - began_s
        self._go_on(None if self._since_s is None else self._since_s + paused_s)

    @contextmanager
    def work(self, kind: str) -> Iterator[None]:
        """Measure the work inside the block by itself; the one around it goes on afterwards."""
        around = self._work
        self._work = kind
        self._go_on(time.monotonic())
        yield
        self._work = around
        self._go_on(time.monotonic())

    def failed(self, error: str) -> None:
        """Report that this rank ends with an error, and give the others the time to read it."""
        if self._guard is not None:
            self._report(error=error)
            time.sleep(guard.WRITTEN_S + guard.read_interval_s(self._world_size))

    def done(self) -> None:
        """Report that this rank is finished: its end is not a failure."""
        self._report(done=True)

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, StoppedError):
            self.done()
        else:
            self.failed(error_line(error))

    def _go_on(self, since_s: float | None) -> None:
        """Go on with a piece of work that began at a time; allow what its kind needs.

        A kind that has not been measured yet may take train.pause_seconds.
        """
        self._since_s = since_s
        took_s = self._took_s.get(self._work)
        allowed_s = self._pause_s if took_s is None else max(self._hang_s, 2 * took_s)
        self._advance(self._work, allowed_s)

    def _advance(self, doing: str, allowed_s: float) -> None:
        self._beats += 1
        self._report(beats=self._beats, doing=doing, allowed_s=allowed_s)

    def _report(self, **facts: object) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        try:
            os.write(self._guard.stdin.fileno(), json.dumps(facts).encode() + b"\n")
        except (BlockingIOError, BrokenPipeError):  # the guard is stopped or gone; training goes on
            return

"""What a process that is one of several tells its guard: how it gets on, and that it fails or is through.

The guard (guard.py) is a process, since a rank that waits in a collective may hold Python's lock: no thread of it runs.
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


class Watch:
    """One process's line to its guard; without `start` every call does nothing."""

    def __init__(self) -> None:
        self._guard: subprocess.Popen[bytes] | None = None
        self._beats = 0
        self._beaten = 0.0
        self._hang_s = self._pause_s = 0.0

    def start(self, hang_s: float, pause_s: float) -> None:
        """Start the guard, which from now on ends this process when its launcher has ended."""
        self._hang_s, self._pause_s, self._beaten = hang_s, pause_s, time.monotonic()
        command = [
            sys.executable,
            "-I",
            guard.__file__,
            str(os.getpid()),
            str(os.getppid()),
            str(hang_s),
        ]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert self._guard.stdin is not None
        os.set_blocking(self._guard.stdin.fileno(), False)

    def join(self, rank: int, world_size: int) -> None:
        """Say which of how many this process is; from now on it must get on."""
        self._tell(rank=rank, world_size=world_size, doing="starting", allowed_s=self._pause_s)

    def share(self, folder: Path) -> None:
        """Name the run folder: the guards meet there, and rank_<r>.log is in it."""
        self._tell(folder=str(folder.resolve()))

    def beat(self) -> None:
        """Count a piece of work; the next one may take train.hang_seconds, or twice as long as this one did."""
        took_s = time.monotonic() - self._beaten
        self._move("training", max(self._hang_s, 2 * took_s))

    @contextmanager
    def pause(self, doing: str) -> Iterator[None]:
        """Allow the longer time for what happens inside."""
        self._move(doing, self._pause_s)
        yield
        self.beat()

    def failed(self, error: str) -> None:
        """Tell the others that this rank ends with an error, and give them the time to read it."""
        if self._guard is not None:
            self._tell(error=error)
            time.sleep(guard.TOLD_S)

    def done(self) -> None:
        """Tell the others that this rank is through: its end is no failure."""
        self._tell(done=True)

    def _move(self, doing: str, allowed_s: float) -> None:
        self._beats += 1
        self._beaten = time.monotonic()
        self._tell(beats=self._beats, doing=doing, allowed_s=allowed_s)

    def _tell(self, **facts: object) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        try:
            os.write(self._guard.stdin.fileno(), json.dumps(facts).encode() + b"\n")
        except (
            BlockingIOError,
            BrokenPipeError,
        ):  # a guard that is stopped or gone; training goes on
            return


WATCH = Watch()  # of this process

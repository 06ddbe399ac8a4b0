"""SIGTERM and SIGINT: a training stops at the same step on every device, with a checkpoint.

Outside a deferring block a signal ends the process at once. Inside, the first one is noted and
obeyed at the next boundary, between two steps, batches or images; the second ends the process.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mindyolo_v4.errors import StoppedError

if TYPE_CHECKING:
    from mindyolo_v4.distributed.ranks import Ranks

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_INTERVAL_S = 1.0  # devices agree about so often,
AGREE_BOUNDARIES = 100  # and after so many boundaries at the latest
_BLOCKED = (*STOP_SIGNALS, signal.SIGCHLD)

logger = logging.getLogger(__name__)


class StopSignals:
    """The signals of one process. Without `listen`, in a notebook say, none arrives here."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferring = False
        self._clean_up: Callable[[], None] | None = None
        self._ranks: Ranks | None = None
        self._boundaries = 0
        self._agreed_at = 0  # boundary of the last agreement
        self._agree_at = 1  # boundary of the next one
        self._agreed_s = time.monotonic()

    def listen(self) -> "StopSignals":
        """Let a thread wait for the signals; call it before any library starts threads.

        A handler would not do: MindSpore replaces the one of SIGINT by its own, which sends
        SIGTERM, whenever a graph runs. So both signals are blocked in this thread and in those that
        it starts. A forked process receives them again, except for Ctrl-C, which reaches the whole
        group: the parent ends its processes itself.

        SIGCHLD goes to a thread of its own. MindData's handler of it allocates memory; a thread
        that it interrupts while it holds a lock of the allocator would wait for itself forever.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        os.register_at_fork(after_in_child=_unblock)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()
        threading.Thread(target=_receive_sigchld, name="SIGCHLD", daemon=True).start()
        return self

    @contextmanager
    def deferred(
        self, ranks: "Ranks", clean_up: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Obey signals only where `check` is called while the block runs.

        Args:
            clean_up: what a process does that ends inside the block without leaving it.
        """
        self._clean_up = clean_up
        self._ranks = ranks
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def note(self, number: signal.Signals, is_own: bool = False) -> None:
        """Handle one signal.

        Args:
            is_own: the process sent it to itself. MindData does that where a loader process has
                died: no batch will come any more.
        """
        if not self._deferring:
            sys.stderr.write("interrupted\n")
            sys.stderr.flush()
            os._exit(128 + number)
        if is_own:
            logger.error(
                "a loader process has died, perhaps out of memory; repeat the command, a training "
                "with --resume"
            )
            self._exit(1)
        if self.received is not None:
            self._exit(128 + number)
        self.received = number

    def _exit(self, status: int) -> None:
        if self._clean_up is not None:
            with suppress(OSError):
                self._clean_up()
        os._exit(status)

    def check(self) -> None:
        """Raise StoppedError where any device has received a signal.

        Every device calls it at the same boundaries.
        """
        alone = self._ranks is None or self._ranks.size == 1
        number = self.received if alone else self._agreed()
        if number is not None:
            raise StoppedError(number)

    def _agreed(self) -> signal.Signals | None:
        """Ask the other devices about once per second; all compute when from equal sums."""
        assert self._ranks is not None
        self._boundaries += 1
        if self._boundaries < self._agree_at:
            return None
        now = time.monotonic()
        milliseconds = 1000.0 * (now - self._agreed_s) / (self._boundaries - self._agreed_at)
        own = [int(self.received == number) for number in STOP_SIGNALS]
        limit = 10**6 // self._ranks.size  # the sum stays exact in float32
        *counts, total = self._ranks.sum([*own, min(round(milliseconds), limit)])
        mean_s = max(total, 1) / self._ranks.size / 1000.0
        self._agreed_at = self._boundaries
        self._agreed_s = now
        wait = max(1, min(AGREE_BOUNDARIES, int(AGREE_INTERVAL_S / mean_s)))
        self._agree_at = self._boundaries + wait
        pairs = zip(STOP_SIGNALS, counts, strict=True)
        return next((number for number, count in pairs if count), None)

    def _wait(self) -> None:
        while True:
            info = signal.sigwaitinfo(STOP_SIGNALS)
            self.note(signal.Signals(info.si_signo), info.si_pid == os.getpid())


def _receive_sigchld() -> None:
    """Let handlers of SIGCHLD run in this thread, which holds no lock: it only waits."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    threading.Event().wait()


def _unblock() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)

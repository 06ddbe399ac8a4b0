"""SIGTERM and SIGINT during a training: every device ends at the same place, with a checkpoint.

The first signal is noted and obeyed at the next boundary, between two steps or two batches of an evaluation; the second
one ends the process at once. Signals come from the thread that `environment.listen_for_signals` has started; a process
without it, a notebook say, does with them what it always does.
"""

import logging
import os
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TypeVar

from mindyolo_v4.environment import STOP_SIGNALS, deliver_signals
from mindyolo_v4.errors import StoppedError
from mindyolo_v4.runtime.device import sum_over_ranks

ASK_EVERY_S = 1.0  # devices agree about so often,
ASK_EVERY = 100  # and after so many boundaries at the latest
Item = TypeVar("Item")

logger = logging.getLogger(__name__)


class StopSignals:
    """Inside the `with`, signals are obeyed at boundaries; one at a time."""

    active: "StopSignals | None" = None

    def __init__(self, world_size: int = 1):
        self.world_size = world_size
        self.received: signal.Signals | None = None
        self.boundaries = self.asked = 0
        self.ask_at = 1
        self.asked_at_s = time.monotonic()

    def __enter__(self) -> "StopSignals":
        StopSignals.active = self
        deliver_signals(self.note)
        return self

    def __exit__(self, *_: object) -> None:
        deliver_signals(None)
        StopSignals.active = None

    def note(self, number: signal.Signals, own: bool = False) -> None:
        """Remember the first signal; end the process at the second one, or where a loader process has died.

        MindData sends its process SIGTERM in that case, `own`: no batch will ever come.
        """
        if own:
            logger.error(
                "a loader process has died, for want of memory perhaps; go on with --resume"
            )
            os._exit(1)
        if self.received is not None:
            os._exit(128 + number)
        self.received = number

    def check(self) -> None:
        """Raise StoppedError where any device has been told to stop; called at the same boundaries on every device."""
        number = self.received if self.world_size == 1 else self._agreed()
        if number is not None:
            raise StoppedError(number)

    def _agreed(self) -> signal.Signals | None:
        """Ask the other devices about once a second; every one computes from the same sums when to ask again."""
        self.boundaries += 1
        if self.boundaries < self.ask_at:
            return None
        now = time.monotonic()
        milliseconds = 1000.0 * (now - self.asked_at_s) / (self.boundaries - self.asked)
        own = [int(self.received == number) for number in STOP_SIGNALS]
        *told, total = sum_over_ranks(
            [*own, min(round(milliseconds), 10**6 // self.world_size)], self.world_size
        )
        mean_s = max(total, 1) / self.world_size / 1000.0
        self.asked, self.asked_at_s = self.boundaries, now
        self.ask_at = self.boundaries + max(1, min(ASK_EVERY, int(ASK_EVERY_S / mean_s)))
        return next(
            (number for number, count in zip(STOP_SIGNALS, told, strict=True) if count), None
        )


def interruptible(batches: Generator[Item, None, None]) -> Iterator[Item]:
    """Yield batches of an evaluation; inside a training a signal ends it between two of them with StoppedError.

    Every device must have the same number of batches.
    """
    with closing(batches):
        for batch in batches:
            if StopSignals.active is not None:
                StopSignals.active.check()
            yield batch

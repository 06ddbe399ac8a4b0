"""Scalars for TensorBoard, written by the thread that has them.

tensorboardX's own SummaryWriter hands them to a thread. When the disk is full that thread dies
unnoticed, and the training waits forever once the queue between them is full. So only its file
format and messages are used here.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

FLUSH_S = 60.0


class TensorBoardFile:
    """The events file of one process; scalars reach the disk after a minute at the latest."""

    def __init__(self, folder: Path, purge_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        # The process number keeps files apart that two processes begin within one second.
        self.writer = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        self.flushed = time.monotonic()
        # TensorBoard then hides what a killed run has written of these steps.
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, prefix: str, scalars: Mapping[str, float], step: int) -> None:
        """Write the values of a step as prefix/name. Raises OSError where the disk is full."""
        for name, value in scalars.items():
            self._write(Event(step=step, summary=summary.scalar(f"{prefix}/{name}", value)))
        if time.monotonic() - self.flushed > FLUSH_S:
            self.writer.flush()
            self.flushed = time.monotonic()

    def close(self) -> None:
        """Write what is waiting."""
        self.writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self.writer.write_event(event)

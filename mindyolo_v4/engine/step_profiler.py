"""A trace of some optimizer steps, by MindSpore's profiler."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms
from mindspore import profiler

from mindyolo_v4.cpu_ops.device import on_cpu
from mindyolo_v4.distributed.heartbeat import Heartbeat

FOLDER = "profile"  # in the run folder; every rank writes its own subfolder

logger = logging.getLogger(__name__)


class StepProfiler:
    """Traces the optimizer steps `first` to `last` of a training, counted from 1.

    As a context manager it writes what it has where the training ends before `last`.

    Args:
        steps: first and last; None: nothing is traced.
    """

    def __init__(self, steps: tuple[int, int] | None, folder: Path, heartbeat: Heartbeat):
        self.first, self.last = steps or (0, 0)
        self.folder = folder / FOLDER
        self.heartbeat = heartbeat
        self.profile: profiler.profile | None = None

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Trace what happens inside the block, if it belongs to a step to trace."""
        if self.profile is None and self.first <= number <= self.last:
            self._start(self.last - number + 1)
        yield
        if self.profile is None:
            return
        if number < self.last:
            self.profile.step()
        else:
            self._finish()

    def __enter__(self) -> "StepProfiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self.profile is not None:
            self._finish()

    def _start(self, count: int) -> None:
        _wait_for_device()  # nothing of the step before belongs to the trace
        kinds = profiler.ProfilerActivity
        self.profile = profiler.profile(
            activities=[kinds.CPU] if on_cpu() else [kinds.CPU, kinds.NPU],
            schedule=profiler.schedule(wait=0, warmup=0, active=count, repeat=1),
            on_trace_ready=profiler.tensorboard_trace_handler(str(self.folder)),
        )
        self.profile.start()

    def _finish(self) -> None:
        """Stop, and let MindSpore evaluate what it has collected, which may take minutes."""
        assert self.profile is not None
        with self.heartbeat.pause("writing the trace"):
            _wait_for_device()
            self.profile.stop()
        self.profile = None
        self.last = 0
        logger.info("trace of the optimizer steps: %s", self.folder)


def _wait_for_device() -> None:
    """Return when the device has done all that it was given; a CPU works while it is called."""
    if not on_cpu():
        ms.runtime.synchronize()

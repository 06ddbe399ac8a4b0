"""A rank's line to its guard, with real processes: a rank that hangs, stops, dies or ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from mindyolo_v4.distributed import guard
from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.errors import StoppedError, UserError

RANK = """
import sys, time
from pathlib import Path
from mindyolo_v4.distributed.heartbeat import Heartbeat
heartbeat = Heartbeat()
heartbeat.start(hang_s=1.0, pause_s=1.0)
heartbeat.join(0, 2)
heartbeat.share(Path(sys.argv[1]))
heartbeat.beat()
print(flush=True)
{then}
"""


def run_rank(folder: Path, then: str) -> subprocess.Popen[bytes]:
    repository = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", RANK.format(then=then), str(folder)]
    process = subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_rank_that_hangs_with_its_loader_is_ended(tmp_path: Path) -> None:
    then = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '300']).pid, flush=True)\n"
        "time.sleep(300)"
    )
    process = run_rank(tmp_path, then)
    assert process.stdout is not None
    loader = int(process.stdout.readline())
    assert process.wait(60) == -signal.SIGKILL
    assert "no progress for" in (tmp_path / "rank_0.log").read_text()
    assert not guard.is_running(loader)


def test_a_stopped_rank_is_named_and_ended(tmp_path: Path) -> None:
    process = run_rank(tmp_path, "time.sleep(300)")
    os.kill(process.pid, signal.SIGSTOP)
    assert process.wait(60) == -signal.SIGKILL
    assert (
        f"ERROR process {process.pid} is stopped (SIGSTOP)" in (tmp_path / "rank_0.log").read_text()
    )


def test_a_killed_rank_leaves_a_line(tmp_path: Path) -> None:
    process = run_rank(tmp_path, "time.sleep(300)")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while not (tmp_path / "rank_0.log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (
        f"process {process.pid} has ended without reporting an error"
        in (tmp_path / "rank_0.log").read_text()
    )


def test_a_rank_that_is_through_may_take_its_time(tmp_path: Path) -> None:
    process = run_rank(tmp_path, "heartbeat.done()\ntime.sleep(2.5)")
    assert process.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_guard_nothing_happens(tmp_path: Path) -> None:
    heartbeat = Heartbeat()
    heartbeat.share(tmp_path)
    heartbeat.beat()
    with heartbeat.pause("compiling"):
        heartbeat.failed("nothing is told")
    heartbeat.done()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("done", "")),
        (StoppedError(signal.SIGTERM), ("done", "")),
        (UserError("data.train", "missing"), ("failed", "data.train: missing")),
        (KeyboardInterrupt(), ("failed", "interrupted")),
        (ValueError("bad\nvalue"), ("failed", "ValueError: bad value")),
        (OSError(2, "No such file", "a.jpg"), ("failed", "a.jpg: No such file")),
    ],
)
def test_how_a_block_ended_is_reported(monkeypatch, error, expected) -> None:
    reports = []
    heartbeat = Heartbeat()
    monkeypatch.setattr(heartbeat, "done", lambda: reports.append(("done", "")))
    monkeypatch.setattr(heartbeat, "failed", lambda line: reports.append(("failed", line)))
    expectation = nullcontext() if error is None else pytest.raises(type(error))
    with expectation, heartbeat:
        if error is not None:
            raise error
    assert reports == [expected]

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
heartbeat.share(Path(sys.argv[1]), "job")
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
    heartbeat.share(tmp_path, "job")
    heartbeat.beat()
    with heartbeat.pause("compiling"):
        heartbeat.failed("nothing is told")
    heartbeat.done()
    assert list(tmp_path.iterdir()) == []


class Measured(Heartbeat):
    """The heartbeat of a rank whose clock the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now_s = 0.0
        self.report: dict[str, object] = {}
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        self.start(60.0, 1800.0)
        self.expect("compiling")
        self.after(900.0)  # compilation and the first step

    def start(self, hang_s: float, pause_s: float) -> None:
        self._hang_s = hang_s
        self._pause_s = pause_s

    def _report(self, **facts: object) -> None:
        self.report |= facts

    def after(self, seconds: float) -> None:
        """Finish a piece of work that takes so long."""
        self.now_s += seconds
        self.beat()

    def allows(self, doing: str, allowed_s: float) -> bool:
        return (self.report["doing"], self.report["allowed_s"]) == (doing, allowed_s)


def test_the_allowance_of_a_step_survives_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = Measured(monkeypatch)
    assert heartbeat.allows("training", 1800.0)  # no step has been measured
    heartbeat.after(70.0)
    assert heartbeat.allows("training", 140.0)
    with heartbeat.pause("saving"):
        assert heartbeat.allows("saving", 1800.0)
        heartbeat.now_s += 1.0
    assert heartbeat.allows("training", 140.0)


def test_a_pause_is_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = Measured(monkeypatch)
    heartbeat.after(70.0)
    heartbeat.now_s += 35.0
    with heartbeat.pause("computing metrics"):
        heartbeat.now_s += 900.0
    heartbeat.after(5.0)
    assert heartbeat.allows("training", 80.0)
    heartbeat.after(1.0)
    assert heartbeat.allows("training", 60.0)


def test_steps_and_validation_batches_are_measured_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heartbeat = Measured(monkeypatch)
    heartbeat.after(70.0)
    for first_allowed_s in (1800.0, 100.0):
        with heartbeat.work("validation"):
            heartbeat.expect("compiling")
            heartbeat.after(300.0)
            assert heartbeat.allows("validation", first_allowed_s)
            heartbeat.after(50.0)
            assert heartbeat.allows("validation", 100.0)
        assert heartbeat.allows("training", 140.0)
    heartbeat.after(80.0)
    assert heartbeat.allows("training", 160.0)


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

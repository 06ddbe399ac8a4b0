"""The guard of one process of several: what it concludes from what it sees, and that it ends its
process.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from mindyolo_v4.distributed import guard
from mindyolo_v4.distributed.guard import Guard, Record
from mindyolo_v4.distributed.heartbeat import Heartbeat

OTHER = Record(process=1, host="another host", rank=1, beats=7, doing="training", allowed_s=60.0)


def listening(folder: Path, **facts: object) -> Guard:
    """Return the guard of rank 0 of two, which has just done its seventh piece of work at time
    100.
    """
    found = Guard(os.getpid(), os.getppid(), 60.0)
    told = {
        "rank": 0,
        "world_size": 2,
        "folder": str(folder),
        "job": "own",
        "beats": 7,
        "doing": "training",
        "allowed_s": 60.0,
    }
    found.handle(json.dumps(told | facts).encode(), 100.0)
    return found


def tell(folder: Path, record: Record, job: str = "own") -> None:
    records = folder / guard.RECORDS / job
    records.mkdir(parents=True, exist_ok=True)
    (records / f"{record.rank}.json").write_text(json.dumps(asdict(record)))


def test_no_reason_while_the_other_gets_on(tmp_path: Path) -> None:
    one = listening(tmp_path)
    tell(tmp_path, OTHER)
    one.read(101.0)
    assert one.reason(159.0) == ""
    tell(tmp_path, replace(OTHER, beats=8))
    one.read(150.0)
    assert one.reason(170.0) == ""  # this one waits, the other has just moved
    found = one.reason(211.0)  # the other has done more: it is not behind
    assert f"rank 0 (process {os.getpid()}) is behind" in found and "rank 1" not in found


def test_the_rank_that_is_behind_is_named_with_its_log(tmp_path: Path) -> None:
    one = listening(tmp_path)
    tell(tmp_path, replace(OTHER, beats=6))
    one.read(101.0)
    assert one.reason(160.5) == ""  # the other was seen to move at 101
    found = one.reason(162.0)
    assert found.startswith(
        "no progress for 62 s (training; train.hang_seconds 60): rank 1 (process 1) is behind"
    )
    assert f"{tmp_path}/rank_1.log" in found


def test_a_longer_time_holds_for_all(tmp_path: Path) -> None:
    one = listening(tmp_path)
    tell(tmp_path, replace(OTHER, doing="compiling", allowed_s=1800.0))
    one.read(101.0)
    assert one.reason(1900.0) == ""
    assert "rank 1" in one.reason(1902.0)


def test_the_records_are_read_again_before_a_standstill_is_one(tmp_path: Path) -> None:
    one = listening(tmp_path)
    tell(tmp_path, OTHER)
    one.read(101.0)
    tell(tmp_path, replace(OTHER, beats=8, doing="compiling", allowed_s=1800.0))
    assert one.reason(162.0) == ""


def test_without_a_common_folder_each_judges_by_itself(tmp_path: Path) -> None:
    found = listening(tmp_path).reason(161.0)
    assert found.endswith(f"rank 0 (process {os.getpid()}) is behind, as far as it can see")


def test_the_error_of_another_rank_is_a_reason_at_once(tmp_path: Path) -> None:
    one = listening(tmp_path)
    tell(tmp_path, replace(OTHER, error="data.train: no such file"))
    one.read(101.0)
    assert one.reason(101.0) == f"rank 1 failed: data.train: no such file; see {one.log_of(1)}"


def test_another_job_in_the_folder_is_no_reason(tmp_path: Path) -> None:
    one = listening(tmp_path)
    tell(tmp_path, OTHER)
    tell(tmp_path, replace(OTHER, error="run.lock: another training"), "other")
    other = listening(tmp_path, job="other")
    other.report_error("run.lock: another training")
    one.read(101.0)
    assert one.reason(101.0) == ""
    assert list(one.others) == [1]
    assert guard.read_record(one.path(0)) == one.own


def test_a_record_is_written_again_where_its_folder_was_deleted(tmp_path: Path) -> None:
    one = listening(tmp_path)
    shutil.rmtree(tmp_path / guard.RECORDS)
    one.write()
    assert guard.read_record(one.path(0)) == one.own


def test_own_error_ends_the_log_and_is_told(tmp_path: Path) -> None:
    one = listening(tmp_path)
    one.handle(b'{"error": "ValueError: bad"}', 101.0)
    assert (tmp_path / "rank_0.log").read_text().splitlines()[-1].endswith(" ERROR ValueError: bad")
    record = guard.read_record(one.path(0))
    assert record is not None
    assert (record.rank, record.beats, record.error) == (0, 7, "ValueError: bad")
    assert one.reason(1000.0) == ""  # it ends by itself


def test_nothing_is_left_of_a_rank_that_is_through(tmp_path: Path) -> None:
    one = listening(tmp_path)
    assert one.path(0).exists()
    one.handle(b'{"done": true}', 101.0)
    one.report_loss()
    assert list(tmp_path.iterdir()) == []
    assert one.reason(1000.0) == ""


def test_a_death_without_a_word_is_told(tmp_path: Path) -> None:
    one = listening(tmp_path)
    one.report_loss()
    assert "has ended without reporting an error" in (tmp_path / "rank_0.log").read_text()
    record = guard.read_record(one.path(0))
    assert record is not None
    assert record.error == "it has ended without reporting an error"


def test_a_death_after_the_schedulers_names_that(tmp_path: Path) -> None:
    one = listening(tmp_path)
    variables = os.environ | {"MS_ROLE": "MS_SCHED"}
    # `cat` by the time that it answers: a process that is just being started has no environment to
    # read.
    with subprocess.Popen(
        ["cat"], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as scheduler:
        assert scheduler.stdin is not None and scheduler.stdout is not None
        scheduler.stdin.write(b"\n")
        scheduler.stdin.flush()
        scheduler.stdout.readline()
        assert guard.is_scheduler(scheduler.pid)
        assert not guard.is_scheduler(os.getpid())
        one.scheduler = scheduler.pid
        one.report_loss()
        assert "the scheduler" not in (tmp_path / "rank_0.log").read_text()
        scheduler.kill()
        scheduler.stdout.close()
    one.own = replace(one.own, error="")
    one.report_loss()
    assert (
        f"since the scheduler (process {scheduler.pid}; scheduler.log) has died"
        in (tmp_path / "rank_0.log").read_text()
    )
    record = guard.read_record(one.path(0))
    assert record is not None
    assert record.error == "the scheduler has died, and MindSpore has ended it"


@pytest.mark.parametrize(("ranks", "readings"), [(2, 20), (16, 20), (64, 5)])
def test_the_records_of_many_ranks_are_read_less_often(
    monkeypatch: pytest.MonkeyPatch, ranks: int, readings: int
) -> None:
    one = Guard(os.getpid(), os.getppid(), 60.0)
    one.world_size = ranks
    one.done = True  # nothing to report
    now_s = 0.0
    read: list[float] = []

    def listen(wait_s: float) -> bool:
        nonlocal now_s
        now_s += 0.25
        return False

    monkeypatch.setattr(one, "listen", listen)
    monkeypatch.setattr(one, "read", read.append)
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    monkeypatch.setattr(guard, "is_running", lambda process: now_s < 10.0)
    one.watch()
    assert len(read) == readings


def test_a_rank_that_fails_waits_until_all_have_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    heartbeat = Heartbeat()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        heartbeat._guard = process
        for ranks in (2, 64):
            heartbeat.join(0, ranks)
            heartbeat.failed("out of memory")
    assert slept == [2.0, 3.5]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["msrun", "--join=True", "python", "train.py"], True),
        (["msrun", "--join", "True", "python", "train.py"], True),
        (["msrun", "--worker_num=2", "python", "train.py"], False),
        (["launch", "--join=True"], False),
    ],
)
def test_which_launchers_are_followed(words: list[str], expected: bool) -> None:
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        line = guard.ask(process.pid, psutil.Process.cmdline, [])
        process.kill()
    assert line[3:] == words
    assert guard.is_waiting_msrun(line) is False  # its third word is the program
    assert guard.is_waiting_msrun(words) is expected

"""run.json: what it holds, what a resumed run adds, and what git says."""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import pytest

from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.files import read_json
from mindyolo_v4.runtime.run_record import RUN_FILE, begin_record, end_record, git_state

DEVICE = {"target": "CPU", "processes": 1}


def test_a_record_says_what_runs_where(tmp_path: Path) -> None:
    begin_record(tmp_path, 7, DEVICE, resumed=False)
    record = json.loads((tmp_path / RUN_FILE).read_text())
    assert record["seed"] == 7
    assert record["device"] == DEVICE
    assert shlex.split(record["command"]) == sys.orig_argv
    age = datetime.now(timezone.utc) - datetime.fromisoformat(record["started"])
    assert 0 <= age.total_seconds() < 60
    assert record["host"]["name"] == platform.node()
    assert record["host"]["cores"] == len(os.sched_getaffinity(0))
    assert record["versions"]["numpy"] == metadata.version("numpy")
    assert record["versions"]["python"] == platform.python_version()
    assert (record["end"], record["earlier"]) == (None, [])


def test_the_end_is_added(tmp_path: Path) -> None:
    begin_record(tmp_path, 7, DEVICE, resumed=False)
    before = read_json(tmp_path / RUN_FILE)
    end_record(tmp_path, {"stopped_by": "epochs", "step": 8})
    after = read_json(tmp_path / RUN_FILE)
    assert after == before | {"end": {"stopped_by": "epochs", "step": 8}}


def test_a_resumed_run_keeps_the_records_of_its_earlier_starts(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        begin_record(tmp_path, seed, DEVICE, resumed=True)
    record = read_json(tmp_path / RUN_FILE)
    assert record["seed"] == 3
    assert [earlier["seed"] for earlier in record["earlier"]] == [1, 2]
    assert not any("earlier" in earlier for earlier in record["earlier"])
    begin_record(tmp_path, 4, DEVICE, resumed=False)
    assert read_json(tmp_path / RUN_FILE)["earlier"] == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_a_damaged_record_is_named_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(UserError, match=r"run\.json: "):
        begin_record(tmp_path, 1, DEVICE, resumed=True)
    assert (tmp_path / RUN_FILE).read_text() == text


def git(folder: Path, *words: str) -> str:
    person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *person, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    nothing = {"git_commit": None, "git_changed": None}
    assert git_state(tmp_path) == nothing
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == nothing  # no commit yet
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    git(tmp_path, "tag", "-a", "v1", "-m", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("not of the checkout")
    assert git_state(tmp_path) == {"git_commit": commit, "git_changed": False}
    (tmp_path / "a.py").write_text("a = 2\n")
    assert git_state(tmp_path) == {"git_commit": commit, "git_changed": True}


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == {"git_commit": None, "git_changed": None}

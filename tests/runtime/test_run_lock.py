"""One training at a time in a run folder: live, dead and distant owners."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime import run_lock as run_lock_module
from mindyolo_v4.runtime.run_lock import run_lock, start_time


def owner(folder: Path) -> dict:
    return json.loads((folder / "run.lock").read_text())


def write_owner(folder: Path, **changes: object) -> None:
    own = {"pid": os.getpid(), "host": socket.gethostname(), "start_time": start_time(os.getpid())}
    (folder / "run.lock").write_text(json.dumps(own | changes))


@pytest.fixture
def ended() -> int:
    """Return the process id of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_taken_and_released(tmp_path):
    (tmp_path / ".last.unfinished.ckpt").write_bytes(b"half")
    with run_lock(tmp_path, 0, 1) as notes:
        assert notes == []
        assert owner(tmp_path) == {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start_time": start_time(os.getpid()),
        }
        assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]
    assert list(tmp_path.iterdir()) == []


def test_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), run_lock(tmp_path, 0, 1):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flock", [True, False])
def test_a_live_owner_is_named(tmp_path, monkeypatch, flock):
    """Without flock, as on some network file systems, the words in the file decide."""
    if not flock:
        monkeypatch.setattr(
            run_lock_module.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(38, "none"))
        )
    with run_lock(tmp_path, 0, 1):
        before = owner(tmp_path)
        with pytest.raises(UserError, match=str(os.getpid())) as error, run_lock(tmp_path, 0, 1):
            pytest.fail("taken twice")
        assert socket.gethostname() in str(error.value)
        assert error.value.exit_status == 2
        assert owner(tmp_path) == before


def test_a_dead_owner_is_succeeded(tmp_path, ended):
    write_owner(tmp_path, pid=ended)
    with run_lock(tmp_path, 0, 1) as notes:
        assert len(notes) == 1
        assert f"process {ended} " in notes[0]
        assert "taken over" in notes[0]
        assert owner(tmp_path)["pid"] == os.getpid()


def test_a_process_id_used_again_is_another_owner(tmp_path):
    write_owner(tmp_path, start_time=start_time(os.getpid()) - 1)
    with run_lock(tmp_path, 0, 1) as notes:
        assert "taken over" in notes[0]


def test_a_process_that_nobody_has_buried_is_dead():
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        assert start_time(process.pid) >= start_time(os.getpid())
        process.kill()
        os.waitid(
            os.P_PID, process.pid, os.WEXITED | os.WNOWAIT
        )  # ended, and still in the table of processes
        assert Path(f"/proc/{process.pid}").exists()
        assert start_time(process.pid) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            json.dumps({"pid": 7, "host": "far.example", "start_time": 1}),
            ["process 7", "far.example", "delete this"],
        ),
        ("{half", ["run.lock: is damaged", "delete it"]),
        ("[1]", ["run.lock: is damaged"]),
    ],
)
def test_what_nobody_can_tell_is_refused_with_the_file_to_delete(tmp_path, text, parts):
    (tmp_path / "run.lock").write_text(text)
    with pytest.raises(UserError) as error, run_lock(tmp_path, 0, 1):
        pytest.fail("taken")
    for part in [str(tmp_path / "run.lock"), *parts]:
        assert part in str(error.value)
    assert (tmp_path / "run.lock").read_text() == text


def test_an_empty_file_is_nobodys(tmp_path):
    (tmp_path / "run.lock").touch()
    with run_lock(tmp_path, 0, 1) as notes:
        assert notes == []


def test_a_child_does_not_hold_what_its_parent_held(tmp_path):
    """A loader process outlives its killed parent for a moment."""
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from mindyolo_v4.runtime.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), 0, 1):\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "        time.sleep(60)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        child = int(process.stdout.readline())
        process.wait()
        try:
            with run_lock(tmp_path, 0, 1) as notes:
                assert f"process {process.pid} " in notes[0]
            assert start_time(child) is not None
        finally:
            os.kill(child, 9)


def test_other_ranks_take_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock_module, "any_rank", lambda flag, world_size: flag)
    with run_lock(tmp_path, 1, 2) as notes:
        assert notes == []
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(run_lock_module, "any_rank", lambda flag, world_size: True)
    with pytest.raises(UserError, match="rank 0 could not take it"), run_lock(tmp_path, 1, 2):
        pytest.fail("taken")

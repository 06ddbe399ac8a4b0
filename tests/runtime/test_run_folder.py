"""The folder of a command: its name, and one training at a time: live, dead and distant owners."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mindyolo_v4.distributed.guard import RECORDS
from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.run_folder import leave, locked, make_run_folder, require_run_folder

RUNTIME = Runtime("CPU", "graph", "O0", "O0")


def make(save_dir: Path | None, name: str = "yolov4", reuse: bool = False) -> Path:
    return make_run_folder(str(save_dir) if save_dir else None, name, RUNTIME, "--resume", reuse)


def test_default_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [make(None).name, make(None).name] == ["yolov4-1", "yolov4-2"]
    (tmp_path / "runs/yolov4-10").mkdir()
    (tmp_path / "runs/yolov4-tiny-40").mkdir()
    assert make(None).name == "yolov4-11"
    assert make(None, reuse=True).name == "yolov4-11"


def test_given_run_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    assert make(folder) == folder
    (folder / "last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"--save_dir: is not empty.*--resume"):
        make(folder)
    assert make(folder, reuse=True) == folder
    with pytest.raises(UserError, match="is a file"):
        make(folder / "last.ckpt", reuse=True)


def test_only_a_run_that_is_there_can_be_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = r"no run folder runs/yolov4-<n> to continue \(expected --save_dir FOLDER\)"
    with pytest.raises(UserError, match=problem):
        require_run_folder(None, "yolov4")
    with pytest.raises(UserError, match=r"no run folder nowhere to continue"):
        require_run_folder("nowhere", "yolov4")
    make(None)
    require_run_folder(None, "yolov4")


@pytest.fixture
def ended() -> int:
    """Return the process id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def write_owner(folder: Path, process: int, host: str) -> None:
    (folder / "run.lock").write_text(f"{process}\n{host}\n")


def test_taken_and_released(tmp_path):
    (tmp_path / ".last.unfinished.ckpt").write_bytes(b"half")
    with locked(tmp_path, RUNTIME) as notes:
        assert notes == []
        words = (tmp_path / "run.lock").read_text().split()
        assert words[:2] == [str(os.getpid()), socket.gethostname()]
        assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]
    assert list(tmp_path.iterdir()) == []


def test_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path, RUNTIME):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


class Shared(Heartbeat):
    """Keeps what is shared with the other guards."""

    def __init__(self):
        super().__init__()
        self.folders = []
        self.jobs = set()

    def share(self, folder, job):
        self.folders.append(folder)
        self.jobs.add(job)


def write_record(folder: Path) -> Path:
    path = folder / RECORDS / "job" / "0.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


def test_a_refused_training_leaves_the_records_of_the_running_one(tmp_path):
    shared = Shared()
    runtime = replace(RUNTIME, heartbeat=shared)
    with locked(tmp_path, RUNTIME):
        record = write_record(tmp_path)
        folder = make_run_folder(str(tmp_path), "yolov4", runtime, "--resume", True)
        with pytest.raises(UserError, match="writes into this folder"), locked(folder, runtime):
            pytest.fail("taken twice")
        assert record.exists()
    assert shared.folders == []


def test_a_folder_is_shared_by_one_job_after_it_is_taken(tmp_path):
    shared = Shared()
    runtime = replace(RUNTIME, heartbeat=shared)
    for _ in range(2):
        record = write_record(tmp_path)  # of a run that was killed
        with locked(tmp_path, runtime):
            assert not record.exists()
    assert shared.folders == [tmp_path] * 2
    assert len(shared.jobs) == 2 and "" not in shared.jobs


def test_a_live_owner_is_named(tmp_path):
    with locked(tmp_path, RUNTIME):
        before = (tmp_path / "run.lock").read_bytes()
        with pytest.raises(UserError) as error, locked(tmp_path, RUNTIME):
            pytest.fail("taken twice")
        assert f"process {os.getpid()} on this host ({socket.gethostname()})" in str(error.value)
        assert error.value.exit_status == 2
        assert (tmp_path / "run.lock").read_bytes() == before


def test_a_dead_owner_is_replaced(tmp_path, ended):
    write_owner(tmp_path, ended, socket.gethostname())
    with locked(tmp_path, RUNTIME) as notes:
        assert notes == [f"process {ended} left this run folder and has ended: taken over"]
        assert (tmp_path / "run.lock").read_text().split()[0] == str(os.getpid())


def test_an_owner_on_another_host_is_respected(tmp_path):
    write_owner(tmp_path, 7, "far.example")
    with (
        pytest.raises(UserError, match=r"process 7 on host far\.example.*delete this file"),
        locked(tmp_path, RUNTIME),
    ):
        pytest.fail("taken")
    assert "far.example" in (tmp_path / "run.lock").read_text()


def test_what_a_process_leaves_that_ends_inside_is_removed(tmp_path):
    write_owner(tmp_path, 7, "host")
    (tmp_path / ".last.unfinished.ckpt").write_bytes(b"half")
    leave(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{half", '{"pid": "x", "host": "h"}', "abc\nhost\n", "9" * 5000, "\x00" * 9]
)
def test_a_file_that_names_no_owner_is_to_be_deleted(tmp_path, text):
    (tmp_path / "run.lock").write_text(text)
    with (
        pytest.raises(UserError, match=r"run\.lock: is damaged; delete it"),
        locked(tmp_path, RUNTIME),
    ):
        pytest.fail("taken")
    assert (tmp_path / "run.lock").read_text() == text


def test_a_child_does_not_hold_what_its_parent_held(tmp_path):
    """A loader process outlives its killed parent for a moment."""
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from mindyolo_v4.runtime.device import Runtime\n"
        "from mindyolo_v4.runtime.run_folder import locked\n"
        "with locked(Path(sys.argv[1]), Runtime('CPU', 'graph', 'O0', 'O0')):\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "        time.sleep(60)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.wait()
        try:
            with locked(tmp_path, RUNTIME) as notes:
                assert f"process {process.pid} " in notes[0]
            os.kill(child, 0)  # it was there all the time
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_ends_leaves_the_lock(tmp_path):
    with locked(tmp_path, RUNTIME):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert (tmp_path / "run.lock").exists()


class Others(Ranks):
    """Rank 1 of 2, whose rank 0 could take the folder or could not."""

    taken = True

    def any(self, flag: bool) -> bool:
        return flag or not self.taken


class Refused(Others):
    taken = False


def test_other_ranks_take_nothing(tmp_path):
    with locked(tmp_path, replace(RUNTIME, ranks=Others(1, 2))) as notes:
        assert notes == []
        assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(UserError, match="rank 0 could not take it"),
        locked(tmp_path, replace(RUNTIME, ranks=Refused(1, 2))),
    ):
        pytest.fail("taken")

"""Commands killed, stopped and resumed, as real processes: nothing is lost or left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from mindyolo_v4.distributed.guard import is_running
from tests.support.recipes import draw_scenes, write_tiny_recipe
from tests.support.runs import rows, tensor_bytes

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent
# For an image the operators take less time one by one than the compilation of their graph.
ONE_BY_ONE = ("--ms_mode", "pynative")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe of 8 steps; long.yaml beside it goes on for minutes."""
    folder = tmp_path_factory.mktemp("interrupted")
    scenes = draw_scenes(folder / "scenes", train=16, val=2)
    for name, epochs in (("short", 2), ("long", 2000)):
        train = {"epochs": epochs, "accumulate": 2, "loss_scale": "dynamic", "checkpoint_steps": 3}
        # A graph that trains the head alone compiles sooner.
        train |= {"freeze": ["backbone.", "neck."], "pictures": 0}
        write_tiny_recipe(folder / f"{name}.yaml", scenes, train=train)
    return folder / "short.yaml"


def start(recipe: Path, folder: Path, *options: str) -> subprocess.Popen:
    """Start a training as the leader of a process group, by which its loaders are found."""
    return start_command("train.py", "--config", str(recipe), "--save_dir", str(folder), *options)


def start_command(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def wait_for_rows(process: subprocess.Popen, folder: Path, count: int) -> None:
    steps = folder / "steps.csv"
    for _ in range(30000):
        if process.poll() is not None or (steps.exists() and len(rows(steps)) >= count):
            return
        time.sleep(0.01)
    pytest.fail("no step was done")


def members(group: int) -> list[int]:
    """Return the processes of a group that still run."""
    found = []
    for process in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getpgid(process) == group and is_running(process):
                found.append(process)
    return found


def wait_until_gone(group: int) -> list[int]:
    for _ in range(100):
        if not members(group):
            break
        time.sleep(0.1)
    return members(group)


def losses(folder: Path) -> list[tuple[str, str]]:
    return [(row["step"], row["loss"]) for row in rows(folder / "steps.csv")]


@contextmanager
def own_temporary() -> Iterator[Path]:
    """Give the processes a temporary folder of their own, of a short name as sockets want it."""
    with (
        tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def temporary() -> Iterator[Path]:
    with own_temporary() as folder:
        yield folder


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that nobody has interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    with own_temporary() as temporary:
        process = start(recipe, run, "--data.num_workers", "1")
        assert process.wait(300) == 0, process.communicate()[1]
        assert list(temporary.iterdir()) == []
    return run


def kill_after(process: subprocess.Popen, folder: Path, step: int) -> str:
    """Kill a training after a step; return what it has printed to stderr."""
    wait_for_rows(process, folder, step)
    process.kill()
    process.wait(20)
    assert (folder / "run.lock").exists()
    assert wait_until_gone(process.pid) == []
    return process.communicate()[1]


def test_a_training_killed_twice_goes_on_bit_for_bit(
    recipe: Path, whole: Path, tmp_path: Path, temporary: Path
) -> None:
    """Of 8 steps, the second with the first checkpoint; resumed with another number of loaders."""
    halves = tmp_path / "halves"
    kill_after(start(recipe, halves), halves, 1)
    errors = kill_after(start(recipe, halves, "--resume"), halves, 5)
    assert "taken over" in errors
    assert "no checkpoint yet: starting from the" in errors
    process = start(recipe, halves, "--resume")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "taken over" in errors
    assert "last.ckpt at step" in errors
    assert losses(whole) == losses(halves)
    assert len(losses(whole)) == 8
    assert tensor_bytes(whole / "last.ckpt") == tensor_bytes(halves / "last.ckpt")
    assert not (halves / "run.lock").exists()
    assert sorted(path.name for path in whole.glob("*.ckpt*")) == sorted(
        path.name for path in halves.glob("*.ckpt*")
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_training_with_a_checkpoint(
    recipe: Path, tmp_path: Path, temporary: Path, number: signal.Signals, status: int
) -> None:
    process = start(recipe.with_name("long.yaml"), tmp_path / "run")
    wait_for_rows(process, tmp_path / "run", 3)
    assert len(members(process.pid)) > 1
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
        second = None
    else:
        second = start(recipe, tmp_path / "run", "--resume")  # while the first one lives
        _, refused = second.communicate(timeout=180)
        assert second.returncode == 2
        assert f"process {process.pid} on this host" in refused
        process.send_signal(number)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == status, errors
    assert wait_until_gone(process.pid) == []
    assert list(temporary.iterdir()) == []
    line = errors.strip().splitlines()[-1]
    assert f"stopped by {number.name} at step" in line
    assert "--resume" in line
    assert "Traceback" not in errors
    assert f"at step {rows(tmp_path / 'run' / 'steps.csv')[-1]['step']} of" in line
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "last.ckpt" in names
    assert not {name for name in names if name == "run.lock" or name.startswith(".")}


def test_a_loader_that_dies_ends_the_training_without_a_lock(
    recipe: Path, tmp_path: Path, temporary: Path
) -> None:
    run = tmp_path / "run"
    process = start(recipe.with_name("long.yaml"), run, "--data.num_workers", "2")
    wait_for_rows(process, run, 3)
    loader = max(psutil.Process(process.pid).children(), key=lambda child: child.create_time())
    loader.kill()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "a loader process has died" in errors
    assert not {path.name for path in run.iterdir() if path.name.startswith((".", "run.lock"))}
    assert wait_until_gone(process.pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_predict_with_what_was_done(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    scenes = draw_scenes(tmp_path / "scenes", train=1, val=1)
    (picture,) = (scenes / "images/val").iterdir()
    for index in range(3000):
        (picture.parent / f"copy{index}.jpg").hardlink_to(picture)
    out = tmp_path / "out"
    files = "--source", str(picture.parent), "--save_dir", str(out)
    weight = "--weight", str(whole / "last.ckpt")
    process = start_command("predict.py", *weight, *files, *ONE_BY_ONE)
    for _ in range(600):
        if len(list(out.glob("*.jpg"))) > 3:
            break
        time.sleep(0.1)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 128 + number, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"stopped by {number.name} after ")
    listed = json.loads((out / "predictions.json").read_text())
    assert len(listed) == len(list(out.glob("*.jpg"))) == int(last.split()[4])
    assert not list(out.glob(".*"))


def test_ctrl_c_ends_test_with_a_line(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = "--weight", str(whole / "last.ckpt"), "--save_dir", str(out)
    options = "--split", "train", "--batch_size", "1", *ONE_BY_ONE
    process = start_command("test.py", *files, *options)
    log = out / "test.log"
    while not (log.exists() and "images of" in log.read_text()) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 130, errors
    assert (
        errors.strip().splitlines()[-1].startswith(("stopped by SIGINT before all", "interrupted"))
    )
    assert not (out / "metrics.json").exists()
    assert wait_until_gone(process.pid) == []


@pytest.mark.parametrize("command", ["test.py", "predict.py"])
def test_ctrl_c_before_anything_ends_with_a_line(command: str, tmp_path: Path) -> None:
    process = start_command(command, "--weight", str(tmp_path / "no.ckpt"), "--source", ".")
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=180)
    assert (process.returncode, errors) in ((130, "interrupted\n"), (2, errors))
    assert "Traceback" not in errors

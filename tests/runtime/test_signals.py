"""SIGTERM and SIGINT: where a training stops, what it leaves, and how it goes on."""

import logging
import signal
import subprocess
import sys

import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.run_folder import newest_valid
from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.errors import StoppedError
from mindyolo_v4.runtime import signals as stopping
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.signals import StopSignals
from tests.support.runs import rows, tensor_bytes
from tests.support.tiny_task import RUNTIME, Task, config, fit

pytestmark = pytest.mark.usefixtures("graph_mode")
SETTINGS = {"epochs": 3, "accumulate": 2, "ema": EmaConfig(0.9, 4.0), "loss_scale": "dynamic"}


class Told(Task):
    """A task that is told to stop while a micro-batch is made, or before a batch of a
    validation.
    """

    def __init__(
        self, number: int, at: int | None = None, in_validation: int | None = None, **options
    ):
        super().__init__(**options)
        self.number = number
        self.at = at
        self.in_validation = in_validation
        self.signals = StopSignals()

    def batches(self, start: int, stop: int):
        for number, batch in enumerate(super().batches(start, stop), start):
            if number == self.at:
                self.signals.note(self.number)
            yield batch

    def evaluate(self, check):
        for number in range(3):
            check()
            if number == 1 and len(self.scored) == self.in_validation:
                self.signals.note(self.number)
        return super().evaluate(check)


@pytest.mark.slow
def test_stops_at_the_next_step_and_goes_on_bit_for_bit(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    fit(Task(steps_per_epoch=8).parts(), config(**SETTINGS), RUNTIME, whole)
    with pytest.raises(StoppedError) as stop:
        task = Told(signal.SIGTERM, at=11, steps_per_epoch=8)
        fit(task.parts(), config(**SETTINGS), RUNTIME, halves, None, task.signals)
    assert stop.value.exit_status == 143
    assert "stopped by SIGTERM at step 6 of 12, epoch 2; repeat" in caplog.messages[-1]
    newest = newest_valid(halves)
    assert newest.path.name == "last.ckpt"
    assert newest.tree["training"]["step"] == 6
    task = Task(steps_per_epoch=8, scores=(2.0, 3.0))
    fit(task.parts(), config(**SETTINGS), RUNTIME, halves, newest)
    assert task.asked[0] == 12
    assert tensor_bytes(whole / "last.ckpt") == tensor_bytes(halves / "last.ckpt")
    losses = [[row["loss"] for row in rows(folder / "steps.csv")] for folder in (whole, halves)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 12


def test_a_validation_is_abandoned_and_made_up_for(tmp_path):
    task = Told(signal.SIGTERM, in_validation=1, scores=(0.5, 0.25, 0.125))
    with pytest.raises(StoppedError):
        fit(task.parts(), config(epochs=3), RUNTIME, tmp_path, None, task.signals)
    assert len(task.scored) == 1
    assert task.network.training
    newest = newest_valid(tmp_path)
    assert newest.tree["training"]["validation_due"]
    again = Task(scores=(0.25, 0.125))
    fit(again.parts(), config(epochs=3), RUNTIME, tmp_path, newest)
    assert again.asked == [8, 9, 10, 11]
    assert [(row["step"], row["AP"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("4", "0.5"),
        ("8", "0.25"),
        ("12", "0.125"),
    ]
    assert (tmp_path / "epoch_0002.ckpt").exists()
    assert not Checkpoint.open(tmp_path / "last.ckpt").tree["training"]["validation_due"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_was_stopped_ends_with_the_signals_status(capsys, number, status):
    def main(_: object) -> int:
        raise StoppedError(number)

    assert run_command(main, []) == status
    assert capsys.readouterr().err == ""


SCRIPT = """
from mindyolo_v4.runtime.signals import StopSignals
stop = StopSignals().listen()
import os, signal, sys, time
mode = sys.argv[1]
if mode == "child":
    child = os.fork()
    if child == 0:
        time.sleep(60)
    time.sleep(0.2)
    os.kill(child, signal.SIGINT)  # as the terminal sends it to all
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit(0)
if mode == "threads":
    from pathlib import Path
    from threading import Event, Thread
    Thread(target=Event().wait, daemon=True).start()  # as a library starts one
    for task in Path("/proc/self/task").iterdir():
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        print(int(status["SigBlk"], 16) >> (signal.SIGCHLD - 1) & 1, flush=True)
    sys.exit(0)
if mode == "early":
    print("ready", flush=True)
    time.sleep(60)
import mindspore as ms
import numpy as np
from mindyolo_v4.distributed.ranks import Ranks
ms.set_device("CPU")
ms.set_context(mode=ms.GRAPH_MODE)
with stop.deferred(Ranks()):
    network = ms.nn.Dense(3, 4)
    # MindSpore sets its own handler of SIGINT here.
    network(ms.Tensor(np.ones((2, 3), np.float32))).asnumpy()
    if mode == "own":
        os.kill(os.getpid(), signal.SIGTERM)
    print("ready", flush=True)
    while stop.received is None:
        network(ms.Tensor(np.ones((2, 3), np.float32))).asnumpy()
    print(stop.received.name, flush=True)
    time.sleep(60)
"""


def ended(mode: str, *signals: int) -> tuple[int, list[str], str]:
    """Send signals to a process, each after a line that it prints; return its status, lines and
    errors.
    """
    lines = []
    # From 3.12 on, Python warns of a fork beside threads.
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for number in signals:
            lines.append(process.stdout.readline().strip())
            process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    return process.returncode, [*lines, *out.split()], errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "status"), [("SIGINT", "SIGTERM", 143), ("SIGTERM", "SIGINT", 130)]
)
def test_the_second_signal_ends_the_process_at_once(first, second, status):
    """The first one is noted, Ctrl-C as such, though graphs of MindSpore run."""
    numbers = [signal.Signals[name] for name in (first, second)]
    assert ended("twice", *numbers)[:2] == (status, ["ready", first])


def test_before_a_training_a_signal_ends_the_process():
    assert ended("early", signal.SIGINT) == (130, ["ready"], "interrupted\n")


@pytest.mark.slow
def test_a_process_whose_loader_has_died_ends():
    """MindData tells its process so with SIGTERM, and nothing will ever come."""
    status, _, errors = ended("own")
    assert status == 1
    assert "a loader process has died" in errors


def test_one_thread_takes_sigchld_and_does_nothing_else():
    """MindData's handler of it allocates, and must not interrupt a thread that does so.

    Of four threads, one takes it; the others block it: the main one, the one that waits for the
    signals that stop a training, and one that was started later.
    """
    status, are_blocked, _ = ended("threads")
    assert (status, sorted(are_blocked)) == (0, ["0", "1", "1", "1"])


def test_a_loader_process_dies_of_sigterm_and_not_of_ctrl_c():
    assert ended("child") == (0, ["-15"], "")


def test_devices_agree_about_once_a_second_at_the_same_boundary(monkeypatch):
    """Boundaries 0.1 s apart: they ask at the first one, then every 10; the signal of the other
    device counts.
    """
    now, asked = [0.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])

    class Two(Ranks):
        def sum(self, counts):
            return summed(counts)

    def summed(counts):
        asked.append(round(now[0], 1))
        other = [
            int(now[0] > 1.5),
            0,
            counts[2],
        ]  # a device of the same speed, told to stop after 1.5 s
        return [own + more for own, more in zip(counts, other, strict=True)]

    stop = StopSignals()
    with stop.deferred(Two(0, 2)), pytest.raises(StoppedError, match="SIGTERM"):
        for _ in range(100):
            now[0] += 0.1
            stop.check()
    assert asked == [0.1, 1.1, 2.1]

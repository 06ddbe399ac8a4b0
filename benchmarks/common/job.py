"""A small training of two workers under msrun, for `benchmarks.faults` to kill and compare."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.common.launch import variables
from benchmarks.common.measure import REPOSITORY
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes

RECIPE = """
model: {{architecture: yolov4-tiny, width: 0.0625, objectness_prior: 0.3}}
data:
  format: yolo
  root: {root}
  train: images/train
  val: images/val
  img_size: 96
  num_workers: 1
  max_truths: 20
optimizer: {{lr: 1.0e-5}}
schedule: {{warmup_steps: 2}}
train:
  epochs: 6
  per_batch_size: 2
  checkpoint_steps: 3
  hang_seconds: {hang_seconds}
  ema: {{decay: 0.9, ramp_steps: 2}}
device_target: CPU
"""
HANG_S = 15.0  # of these trainings; the default is 60
LONGEST_S = 300.0  # until any end
NOT_EXACT = ("images_per_s",)  # columns of steps.csv


@dataclass(frozen=True)
class Ended:
    """How a job came to its end."""

    status: int
    seconds: float  # since the fault, or the start


def write_recipe(folder: Path) -> Path:
    """Write pictures and the recipe into a folder; return the latter."""
    write_scenes(folder / "scenes", SceneSet(train=32, val=12, img_size=128, seed=0))
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=folder / "scenes", hang_seconds=HANG_S), "utf-8")
    return recipe


class Job:
    """One start of the training."""

    def __init__(
        self, recipe: Path, run: Path, *options: str, workers: int = 2, port: int | None = None
    ):
        self.run = run
        self.logs = run.with_name(f"{run.name}-logs")
        around = variables(CLUSTER_TIME_OUT="60")
        if port is not None:
            around["MASTER_PORT"] = str(port)
        words = ["--config", str(recipe), "--save_dir", str(run), *options]
        launcher = [sys.executable, "train.py"]
        if workers > 1:
            launcher = ["scripts/run_distribute_train.sh", str(workers), str(self.logs)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*launcher, *words],
            cwd=REPOSITORY,
            env=around,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait(self, since: float | None = None) -> Ended:
        """Wait for the end; whatever is left of the job is killed then."""
        try:
            self.output, _ = self.process.communicate(timeout=LONGEST_S)
        finally:
            self.kill(self.members())
        return Ended(self.process.returncode, time.monotonic() - (since or self.started))

    def members(self) -> list[psutil.Process]:
        """Return all processes of the job: its process group, and what names its folder."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                is_of_group = os.getpgid(process.pid) == self.process.pid
                if is_of_group or str(self.run) in process.cmdline():
                    found.append(process)
        return found

    def worker(self, rank: int) -> psutil.Process:
        """Return the process of a rank."""
        return self._in_role("MS_WORKER", str(rank))

    def scheduler(self) -> psutil.Process:
        """Return the process that brings the others together."""
        return self._in_role("MS_SCHED")

    def _in_role(self, role: str, node: str | None = None) -> psutil.Process:
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                environment = process.environ()
                is_wanted = node in (None, environment.get("MS_NODE_ID"))
                if environment.get("MS_ROLE") == role and is_wanted:
                    return process
        raise SystemExit(f"the job has no {role} {node or ''}")

    def kill(
        self, processes: Sequence[psutil.Process], number: signal.Signals = signal.SIGKILL
    ) -> None:
        """Send a signal; who is gone already does not matter."""
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(number)

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds; False when the job ended first."""
        while self.process.poll() is None and time.monotonic() - self.started < LONGEST_S:
            if condition():
                return True
            time.sleep(0.002)
        return False

    def line(self, rank: int, text: str = "") -> str:
        """Return the last line with a text that a rank has logged, or else the job has printed."""
        path = self.run / f"rank_{rank}.log"
        lines = (path.read_text("utf-8", "replace") if path.is_file() else self.output).split("\n")
        return next((line for line in reversed(lines) if line.strip() and text in line), "")


def rows(run: Path) -> list[dict[str, str]]:
    """Return what steps.csv holds so far, without what differs from run to run."""
    path = run / "steps.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in NOT_EXACT}
            for row in csv.DictReader(file)
        ]


def same(run: Path, whole: Path) -> bool:
    """Return whether two runs have equal rows and equal last checkpoints, bit for bit."""
    return rows(run) == rows(whole) and tensor_bytes(run) == tensor_bytes(whole)


def tensor_bytes(run: Path) -> dict[str, bytes]:
    """Return the tensors of a run's last checkpoint."""
    import mindspore as ms  # here, since only this function needs it

    content = ms.load_checkpoint(str(run / "last.ckpt"))
    tensors = {name: value for name, value in content.items() if isinstance(value, ms.Tensor)}
    return {name: value.asnumpy().tobytes() for name, value in tensors.items()}


def moments(
    generator: random.Random, last_step: int, per_epoch: int
) -> Iterator[tuple[str, Callable[[Path], bool]]]:
    """Yield moments of a step, a save and a validation in turn: a name, and when it has come."""
    while True:
        step = generator.randrange(1, last_step)
        part_s = generator.uniform(0.0, 0.3)
        yield (
            f"{part_s:.2f} s after step {step}",
            later(lambda run, step=step: len(rows(run)) >= step, part_s),
        )
        step = generator.randrange(3, last_step)
        yield (
            f"in a save after step {step}",
            lambda run, step=step: len(rows(run)) >= step and is_saving(run),
        )
        epoch = generator.randrange(1, last_step // per_epoch)
        part_s = generator.uniform(0.0, 0.6)
        ended = later(lambda run, epoch=epoch: len(rows(run)) >= epoch * per_epoch, part_s)
        yield f"{part_s:.2f} s into the validation of epoch {epoch}", ended


def later(condition: Callable[[Path], bool], seconds: float) -> Callable[[Path], bool]:
    """Return a condition that holds for the first time `seconds` after another one does."""
    since: list[float] = []

    def holds(run: Path) -> bool:
        if not since and condition(run):
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return holds


def is_saving(run: Path) -> bool:
    """Return whether a checkpoint is being written."""
    return any(run.glob(".*.unfinished.ckpt"))

"""The command of the first day: what it prints on a CPU; test_two_workers.py has two of them."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.tools import device_trial
from mindyolo_v4.tools.check_device import PUBLISHED, installed_version, main, table
from mindyolo_v4.tools.device_trial import DeviceTrial
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes

SMALL = [
    *("--device_target", "CPU", "--model.architecture", "yolov4-tiny", "--model.width", "0.0625"),
    *("--img_size", "64", "--data.max_truths", "20", "--batch_size", "2", "--steps", "3"),
]
ONE_BY_ONE = ("--ms_mode", "pynative")  # takes less time than to compile a graph
CPU = Runtime("CPU", "graph", "default", "O0")


class WrongRanks(Ranks):
    """Two devices, one of which adds wrongly or loses its rows."""

    def __init__(self, total: int):
        super().__init__(0, 2)
        object.__setattr__(self, "total", total)

    def sum(self, counts):
        return [self.total]

    def gather_rows(self, rows):
        return rows


class EndlessSession:
    """A training whose steps are never finite."""

    def __init__(self, *_: object) -> None:
        self.plan = SimpleNamespace(rates=(0.1,))
        self.train_step = self
        self.update = self

    def tensors(self):
        return {}

    def remember_statistics(self) -> None:
        pass

    def compile(self, rate, batch) -> None:
        pass

    def __call__(self, rate, micro_batches):
        return Tensor(np.array([np.nan], np.float32)), Tensor(False)


def figures(printed: str) -> dict[str, tuple[float, float]]:
    """Return the figures of the printed table: here, published."""
    rows = re.findall(r"^\| ([a-z ]+) \| ([\d.]+) \| ([\d.]+) \|$", printed, re.M)
    return {name: (float(here), float(published)) for name, here, published in rows}


@pytest.mark.slow
def test_without_data(capsys: pytest.CaptureFixture[str], graph_mode: None) -> None:
    assert run_command(main, SMALL) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^versions: mindyolo_v4 \S+, mindspore 2\.\d+\.\d+, numpy \S+", printed)
    assert "device: CPU, graph mode" in printed
    assert "exchange: not checked, one process" in printed
    assert "data: not checked" in printed
    assert "yolov4-tiny, 64 px, 1 device(s) x 2 images x 1 accumulated" in printed
    # The first step, two more to warm up, three with the clock.
    losses = re.search(r"loss ([\d.]+) to ([\d.]+); 0 of 6 were not finite", printed)
    assert losses is not None
    assert losses[1] != losses[2]
    shown = figures(printed)
    assert {name: published for name, (_, published) in shown.items()} == PUBLISHED
    per_second = 2 * 1000 / shown["milliseconds per step"][0]
    assert shown["images per second"][0] == pytest.approx(per_second, rel=0.01, abs=0.01)
    assert shown["seconds of compilation"][0] > 0


@pytest.mark.slow
def test_with_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(tmp_path / "scenes", SceneSet(train=8, val=2, img_size=128, seed=0))
    section = ["--data.format", "yolo", "--data.train", "images/train", "--data.num_workers", "1"]
    words = [
        *SMALL,
        *section,
        "--data_dir",
        str(tmp_path / "scenes"),
        "--data.names",
        "classes.txt",
    ]
    assert run_command(main, [*words, "--train.accumulate", "2", *ONE_BY_ONE]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^data: .*8 images", printed, re.M)
    assert re.search(
        r"^data: the loader of a device makes [\d.]+ images per second$", printed, re.M
    )
    assert "2 images x 2 accumulated" in printed
    shown = figures(printed)
    per_second = 4 * 1000 / shown["milliseconds per step"][0]
    assert shown["images per second"][0] == pytest.approx(per_second, rel=0.01, abs=0.01)


@pytest.mark.slow
def test_a_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    network = ["--model.architecture", "cspdarknet53", "--model.depth", "0.1"]
    data = ["--data.format", "imagenet", "--data.num_classes", "5", "--data.resize", "stretch"]
    assert run_command(main, [*SMALL, *network, *data, *ONE_BY_ONE]) == 0
    printed = capsys.readouterr().out
    assert "cspdarknet53, 64 px" in printed
    assert "0 of 6 were not finite" in printed


def test_a_wrong_product_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "are right" in DeviceTrial(Config(), CPU).device()[-1]
    right = device_trial.ops.matmul
    monkeypatch.setattr(device_trial.ops, "matmul", lambda left, right_: right(left, right_) + 1)
    with pytest.raises(UserError, match=r"device: a matrix product in Float32 is wrong on CPU"):
        DeviceTrial(Config(), CPU).device()


def test_a_wrong_exchange_is_an_error() -> None:
    with pytest.raises(UserError, match=r"exchange: a sum is wrong \(got 4, expected 3\)"):
        DeviceTrial(Config(), replace(CPU, ranks=WrongRanks(4))).exchange()
    with pytest.raises(UserError, match=r"exchange: gathered rows are wrong"):
        DeviceTrial(Config(), replace(CPU, ranks=WrongRanks(3))).exchange()


def test_a_training_without_a_finite_step_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = DeviceTrial(Config(train=TrainConfig(per_batch_size=1)), CPU)
    monkeypatch.setattr(device_trial, "training_session", EndlessSession)
    monkeypatch.setattr(device_trial, "random_batch", lambda *_: (np.zeros(1),))
    with pytest.raises(UserError, match=r"steps: not one was finite"):
        trial.train(2)


def test_version_of_an_installed_toolkit(tmp_path: Path) -> None:
    path = tmp_path / "version.info"
    assert installed_version(path) == ""
    path.write_text("# toolkit\nversion_dir=8\nVersion=8.3.0.1.200\n")
    assert installed_version(path) == "8.3.0.1.200"


def test_table_by_hand() -> None:
    lines = table({"milliseconds per step": 300.0})
    assert lines[-1] == "| milliseconds per step | 300.00 | 308.43 |"

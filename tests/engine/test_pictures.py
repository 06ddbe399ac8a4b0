"""What a training draws of a made-up task, and when."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.pictures import Pictures
from mindyolo_v4.engine.task import Scores
from tests.support.fake_task import FAKE_TASK, FakeSplit
from tests.support.tiny_task import RUNTIME


def draw_all(
    folder: Path, count: int, rank: int = 0, heartbeat: Heartbeat = RUNTIME.heartbeat
) -> list[str]:
    """Go through a training of three steps and a validation; return the files of its folder."""
    config = Config(train=TrainConfig(pictures=count), seed=7)
    runtime = replace(RUNTIME, ranks=Ranks(rank, 1), heartbeat=heartbeat)
    pictures = Pictures(FAKE_TASK, config, ("cat", "dog"), runtime)
    pictures.begin(folder, FakeSplit())
    for step in range(3):
        pictures.step(step, [(Tensor(np.zeros((1, 3, 8, 8), np.uint8)),)])
    draw = lambda path: (path / "val_1.jpg").write_bytes(b"jpg")  # noqa: E731
    pictures.validation(Scores({}, "", {}, draw))
    pictures.validation(Scores({}, "", {}))
    pictures.end()
    return sorted(path.name for path in folder.iterdir())


END = ["report.html", "results.png"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, ["labels.png", *END, "train_batch_1.jpg", "train_batch_2.jpg", "val_1.jpg"]), (0, END)],
)
def test_the_first_steps_are_drawn(tmp_path: Path, count: int, expected: list[str]) -> None:
    assert draw_all(tmp_path, count) == expected
    report = (tmp_path / "report.html").read_text()
    assert f"<h1>Training {tmp_path.name}</h1>" in report
    assert "\nseed: 7\n" in report


def test_other_ranks_draw_nothing(tmp_path: Path) -> None:
    assert draw_all(tmp_path, 3, rank=1) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_allow_for_the_last_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    expected: list[str] = []
    monkeypatch.setattr(RUNTIME.heartbeat, "expect", expected.append)
    draw_all(tmp_path, 0, rank)
    assert expected[-1] == "drawing"


def test_all_ranks_are_at_the_same_beat_after_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[list[object]] = []
    for rank in (0, 1):
        heartbeat = Heartbeat()
        reports: list[object] = []
        monkeypatch.setattr(heartbeat, "_report", lambda to=reports, **facts: to.append(facts))
        draw_all(tmp_path, 2, rank, heartbeat)
        beats.append(reports)
    assert beats[0] == beats[1]

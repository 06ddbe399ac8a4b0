"""What a test writes, and how it ends where images could not be read."""

import json
from pathlib import Path

import pytest

from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.process import Process
from mindyolo_v4.runtime.scoring_run import Scores, ScoringRun, log_unreadable


class ThreeImages:
    """A split of three images, one line of which is a warning."""

    source = "images/val"

    def __len__(self) -> int:
        return 3

    def warning_lines(self) -> list[str]:
        return ["a box without area"]


def run_test(
    folder: Path, unreadable: int, allow_unreadable: bool = False, process: Process | None = None
) -> int:
    scores = Scores(
        {"AP": 0.5, "unreadable": unreadable},
        "AP 0.500",
        {"predictions.json": [1, 2]},
        draw=lambda written: (written / "drawn.txt").write_text("a picture"),
    )
    config = Config(save_dir=str(folder))
    run = ScoringRun(
        Path("net.ckpt"),
        "Test of net.ckpt",
        ThreeImages(),
        config,
        process or Process(),
        {"target": "CPU"},
        allow_unreadable=allow_unreadable,
    )
    checks = []

    def score(check):
        checks.append(check())
        return scores

    status = run(score)
    assert checks == [None]
    return status


@pytest.mark.parametrize(("unreadable", "allowed"), [(0, False), (2, True)])
def test_all_files_are_written(tmp_path: Path, unreadable: int, allowed: bool) -> None:
    assert run_test(tmp_path / "out", unreadable, allowed) == 0
    out = tmp_path / "out"
    assert json.loads((out / "metrics.json").read_text()) == {"AP": 0.5, "unreadable": unreadable}
    assert json.loads((out / "predictions.json").read_text()) == [1, 2]
    assert (out / "drawn.txt").is_file() and (out / "report.html").is_file()
    record = json.loads((out / "run.json").read_text())
    assert record["end"]["images"] == 3
    log = (out / "test.log").read_text()
    assert "net.ckpt: 3 images of images/val" in log and "a box without area" in log


def test_the_ranks_share_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    shared = []
    monkeypatch.setattr(process.heartbeat, "share", lambda folder, job: shared.append(folder))
    run_test(tmp_path / "out", 0, process=process)
    assert shared == [tmp_path / "out"]


def test_unreadable_images_are_an_error_after_everything_is_written(tmp_path: Path) -> None:
    match = r"images/val: 2 of 3 images could not be read .*--allow_unreadable"
    with pytest.raises(UserError, match=match):
        run_test(tmp_path / "out", 2)
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_ten_unreadable_images_are_named(caplog: pytest.LogCaptureFixture) -> None:
    log_unreadable([f"{number}.jpg: broken" for number in range(12)])
    assert caplog.messages[9:] == ["9.jpg: broken", "... and 2 more images"]
    caplog.clear()
    log_unreadable(["a.jpg: broken"])
    assert caplog.messages == ["a.jpg: broken"]

"""The comparison of the step of two checkouts: median ratio, equal losses, wrong folder."""

import sys
from pathlib import Path

import pytest

from benchmarks import step_change
from benchmarks.common.turns import SteppedProcess


def test_ratio_of_neighbouring_steps_and_losses() -> None:
    now = [[(0.2, 5.0)], [(0.6, 4.0)], [(0.9, 3.0)]]
    beside = [[(0.1, 5.0)], [(0.5, 4.0)], [(1.0, 3.0)]]
    ratio, is_equal = step_change.compared({"now": now, "beside": beside})
    assert (ratio, is_equal) == (pytest.approx(1.2), True)
    beside[2] = [(1.0, 3.5)]
    assert step_change.compared({"now": now, "beside": beside}) == (pytest.approx(1.2), False)


def test_both_sides_step_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks" / "common").mkdir(parents=True)
    (tmp_path / "benchmarks" / "common" / "ours.py").touch()

    def stepped(folder: Path, side: str, batch: Path, model: dict[str, str], made: Path):
        assert (model["width"], model["depth"]) == ("0.25", "1.0")
        seconds = {"on": 0.3, "off": 0.6}[model["cpu_fused"]] if folder == tmp_path else 0.6
        source = f"import sys\nfor _ in sys.stdin: print({seconds}, 7.5, flush=True)"
        return SteppedProcess(side, [sys.executable, "-c", source], made / f"{side}.log")

    monkeypatch.setattr(step_change, "stepped", stepped)
    words = ["step_change", "--beside", str(tmp_path), "--steps", "3", "--img_size", "64"]
    words += ["--width", "0.25"]
    monkeypatch.setattr("sys.argv", words)
    assert step_change.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        *["64 px, fused: 2.000, the same losses"] * 2,
        "step_change_64_fused 2.000",
        *["64 px, stock: 1.000, the same losses"] * 2,
        "step_change_64_stock 1.000",
    ]


def test_another_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["step_change", "--beside", str(tmp_path)])
    with pytest.raises(SystemExit):
        step_change.main()
    assert "is not a checkout of this repository" in capsys.readouterr().err

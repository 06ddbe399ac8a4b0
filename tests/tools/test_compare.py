"""The command that compares run folders: what it prints and draws, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from mindyolo_v4.config.recipe import build_config, dump_config
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.run_record import begin_record, end_record
from mindyolo_v4.tools.compare import differences, main, read_run, side_by_side


def write_run(folder: Path, lr: float, ap: float | None = None, **model: Any) -> Path:
    folder.mkdir(parents=True)
    tree = {"save_dir": str(folder), "model": model, "optimizer": {"lr": lr}}
    (folder / "config.yaml").write_text(dump_config(build_config(tree)))
    (folder / "steps.csv").write_text(f"step,epoch,loss,lr\n1,1,9.5,{lr}\n2,1,4.5,{lr}\n")
    if ap is not None:
        metrics = {"AP": ap, "AP50": 0.5, "epoch": 1, "per_class": [{"class_id": 0}]}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "metrics.csv").write_text(f"epoch,step,AP,AP50\n1,2,{ap},0.5\n")
    return folder


def test_differences_are_printed_and_curves_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = write_run(Path("runs/one"), 0.001, ap=0.25)
    two = write_run(Path("runs/two"), 0.01)  # nothing was validated, and run.json is younger
    begin_record(one, 1, {"target": "CPU"}, resumed=False)
    end_record(one, {"stopped_by": "epochs", "peak_memory_gb": 1.5})
    assert main([str(one), str(two)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["configuration", "runs/one", "runs/two"]
    assert lines[1] == ["optimizer.lr", "0.001", "0.01"]
    assert lines[2] == []  # no other key differs
    assert ["seed", "1", "-"] in lines
    assert ["best.AP", "0.25", "-"] in lines
    assert ["end.peak_memory_gb", "1.5", "-"] in lines
    assert [line[:1] for line in lines].count(["end.peak_memory_gb"]) == 1
    assert not any(line[:1] in (["save_dir"], ["started"], ["best.per_class"]) for line in lines)
    assert lines[-1] == ["curves:", "runs/compare-1/compare.png"]
    assert Path("runs/compare-1/compare.png").stat().st_size > 10_000


def test_the_end_of_a_run_is_no_part_of_its_record(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 0.1)
    (folder / "run.json").write_text('{"torch": 1, "end": {"hours": 2, "memory": {"gb": 3}}}')
    run = read_run(folder)
    assert (run.record, run.results) == ({"torch": "1"}, {"end.hours": "2", "end.memory.gb": "3"})
    (folder / "run.json").write_text('{"torch": 1, "end": "killed"}')
    assert (read_run(folder).record, read_run(folder).results) == ({"torch": "1"}, {})


def test_equal_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, 0.001, ap=0.25) for name in "abc"]
    assert main([*map(str, runs), "--save_dir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "configuration: no difference" in printed
    assert "record: no difference" in printed
    assert (tmp_path / "out/compare.png").is_file()


def test_classifiers_have_their_own_curves(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, 0.1, architecture="cspdarknet53") for name in "ab"]
    (runs[0] / "metrics.csv").write_text("epoch,step,acc1,acc5\n1,2,50,90\n")
    assert main([*map(str, runs), "--save_dir", str(tmp_path / "out")]) == 0


def test_a_key_that_one_run_lacks_is_a_difference() -> None:
    runs = [{"a": "1", "b": "2"}, {"a": "1", "c": "3"}]
    assert differences(runs) == {"b": ["2", "-"], "c": ["-", "3"]}
    assert side_by_side(runs)["a"] == ["1", "1"]


def test_a_configuration_of_another_version_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "old", 0.1)
    (folder / "config.yaml").write_text("seed: 3\nmodel: {gone: [1, 2]}\n")
    assert read_run(folder).config == {"seed": "3", "model.gone": '["1", "2"]'}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.yaml", "- 1\n", r"config\.yaml: not a mapping"),
        ("config.yaml", "a: [\n", r"config\.yaml: not readable as YAML"),
        ("metrics.json", "{", r"metrics\.json: not readable as JSON"),
        ("metrics.json", "[]", r"metrics\.json: is damaged"),
        ("run.json", "1", r"run\.json: is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = write_run(tmp_path / "a", 0.1)
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_run(folder)

"""The ablation: its switches are valid, runs that ended stay, and differences are of one seed."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ablation
from benchmarks.ablation import BASELINE, EPOCHS, RECIPE, SMALL, SWITCHES, time_steps
from benchmarks.common.measure import REPOSITORY, option_words
from mindyolo_v4.config.recipe import build_config, read_tree


def write_run(folder: Path, ap50: float, epoch: int = EPOCHS) -> None:
    """Write what a training of `folder`, SWITCH/SEED, leaves behind."""
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"")
    settings = {**SMALL, "seed": folder.name, **SWITCHES[folder.parent.name]}
    command = ["python", "train.py", "--save_dir", str(folder), *map(str, option_words(settings))]
    (folder / "run.json").write_text(json.dumps({"command": shlex.join([*command, "--resume"])}))
    (folder / "metrics.csv").write_text(f"epoch,AP,AP50\n{epoch},{ap50 / 2},{ap50}\n")


def write_ratios(output: Path, **ratios: float) -> None:
    (output / "times.json").write_text(json.dumps({BASELINE: 1.0, **ratios}))


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_the_baseline(name: str) -> None:
    def config(overrides: dict[str, str]) -> object:
        return build_config(read_tree(str(REPOSITORY / RECIPE), tuple(overrides.items())))

    changed = config({**SMALL, **SWITCHES[name]})
    assert (changed == config(SMALL)) == (name == BASELINE)


def test_table_compares_runs_of_one_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (before, after) in enumerate(((0.50, 0.54), (0.70, 0.72)), 1):
        write_run(tmp_path / BASELINE / str(seed), before)
        write_run(tmp_path / "mixup" / str(seed), after)
    write_ratios(tmp_path, mixup=2.5)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it has ended"))
    words = ["ablation", "--output", str(tmp_path), "--only", "mixup", "--seeds", "2"]
    monkeypatch.setattr("sys.argv", words)

    assert ablation.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| baseline | 0.600 | 0.300 | +0.000 ± 0.000 | +0.000 ± 0.000 | 1.00 |"
    assert lines[3] == "| mixup | 0.630 | 0.315 | +0.030 ± 0.014 | +0.015 ± 0.007 | 2.50 |"
    assert (tmp_path / "ablation.png").stat().st_size > 1000


def test_a_training_with_other_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / BASELINE / "1", 0.5)
    monkeypatch.setitem(SMALL, "data.img_size", "256")
    monkeypatch.setattr("sys.argv", ["ablation", "--output", str(tmp_path), "--seeds", "1"])
    with pytest.raises(SystemExit, match=r"--output: .*baseline/1 has a training with other"):
        ablation.main()


def test_without_seeds_the_table_has_the_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ratios(tmp_path, mixup=1.25, mosaic=3.0)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it has ended"))
    words = ["ablation", "--output", str(tmp_path), "--only", "mixup", "--seeds", "0"]
    monkeypatch.setattr("sys.argv", words)

    assert ablation.main() == 0
    table = ["| switch | time per step |", "|---|---|", "| baseline | 1.00 |", "| mixup | 1.25 |"]
    assert capsys.readouterr().out.splitlines() == table
    assert not (tmp_path / "ablation.png").exists()


def stand_in(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Let a script take the place of the timed training; it finds the overrides in sys.argv[1]."""

    def command(_: str, *words: object) -> list[object]:
        return [sys.executable, "-c", f"import sys\n{source}", words[-1]]

    monkeypatch.setattr(ablation, "measuring_command", command)


def test_time_per_step_is_a_multiple_of_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = "0.75 if 'mixup_prob' in sys.argv[1] else 0.25"
    stand_in(monkeypatch, f"for line in sys.stdin: print({seconds}, flush=True)")
    names = [BASELINE, "mixup", "accumulate"]
    expected = {BASELINE: 1.0, "mixup": 3.0, "accumulate": 2.0}  # two micro-batches of 0.25 s
    assert time_steps(names, tmp_path, "data") == expected
    write_ratios(tmp_path, mixup=7.0)
    assert time_steps([BASELINE, "mixup"], tmp_path, "data")["mixup"] == 7.0


def test_a_timed_training_that_ends_early_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "sys.exit('no images' if sys.stdin.readline() else 0)")
    with pytest.raises(SystemExit, match=r"baseline: the timed training has ended\nno images"):
        time_steps([BASELINE, "mixup"], tmp_path, "data")


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_what_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_checkpoint: bool
) -> None:
    folder = tmp_path / "mixup" / "4"
    write_run(folder, 0.1, epoch=EPOCHS - 1)
    if not has_checkpoint:
        (folder / "last.ckpt").unlink()
    commands = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(SystemExit, match="mixup, seed 4: the training ended with 3"):
        ablation.train("mixup", 4, folder, "data")
    assert (commands[0][-1] == "--resume") == has_checkpoint
    assert folder.exists() == has_checkpoint
    words = commands[0]
    assert words[words.index("--seed") + 1] == "4"
    assert words[words.index("--data.augment.mixup_prob") + 1] == "0.2"

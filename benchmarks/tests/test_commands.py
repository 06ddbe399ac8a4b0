"""The commands: options, printed lines, and the exit status when a bound is missed.

Most measurements are made up here; test_small.py runs measuring processes on small settings.
"""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks_main
from benchmarks import coco_eval, nms
from benchmarks.common import measure
from benchmarks.common.made_batch import CLASSES, recipe, write_batch
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.losses.assign import WEIGHT_OBJECT

LINE = re.compile(
    r"figure=\w[\w.]* ours=[\d.e+-]+ peer=([\d.e+-]+|-) ratio=[\d.e+-]+ bound=[\d.e+-]+"
)
MADE_UP = {  # what all measuring processes together would print
    "step_s": 2.0,
    "first_s": 9.0,
    "compile_s": 7.0,
    "peak_gb": 3.0,
    "assign_cpu_s": 0.001,
    "process_s": 9.0,
    "losses": [1.0],
    "version": "1",
    "map_error": 0.0,
    "loss_error": 0.0,
    "ignored": 5,
    "seconds": 1.0,
    "numbers": [0.5, 0.25],
    "whole_ms": 3.0,
    "suppression_ms": 2.0,
    "median_ms": 2.0,
    "what": "a peer",
    "parameters": 7,
    "cpu_fused": "stock",
    "images_per_second": 100.0,
    "images_per_core_second": 100.0,
    "decodes": 1.0,
    "wait_s": [9.0, 0.1, 0.1],
    "work_s": [9.0, 0.9, 0.9],
    "resident_gb": [2.0] * 300,
}
# Command -> its figures on what is made up: name, ratio, and whether all bounds are kept.
FIGURES = {
    "cpu_settings": ({"cpu_settings_2.8.0_64": 1.0}, True),
    "train_step": ({"train_step_64_stock": 1.0, "train_step_64_fused": 1.0}, True),
    "compile": ({"compile_64": 0.1045}, True),
    "memory": ({"memory_64_stock": 0.4912, "memory_64_fused": 0.4912, "memory_64_flat": 1.0}, True),
    "loss_share": ({"loss_share_64": 1.001}, False),
    "loader": ({"loader_64": 1.0, "loader_64_workers": 1.0}, False),
    "inference": ({"inference_64": 1.0}, True),
    "nms": (
        {
            "nms_3000_ms": 3.0,
            "nms_3000_batched": 1.0,
            "nms_23000_ms": 3.0,
            "nms_23000_batched": 1.0,
        },
        True,
    ),
    "coco_eval": ({"coco_eval": 1.0, "coco_eval_difference": 0.0}, False),
    "data_wait": ({"data_wait_64": 0.1}, False),
    "classifier_step": ({"classifier_step_64": 1.0}, True),
}
SMALL = {
    "cpu_settings": ["--versions", "2.8.0"],
    "loader": ["--data_dir", "."],
    "data_wait": ["--data_dir", "."],
}
WITHOUT_SIZE = ("nms", "coco_eval", "startup")


def call(monkeypatch, name: str, *words: str) -> int:
    command = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, *words])
    return command.main()


@pytest.mark.parametrize("name", benchmarks_main.COMMANDS)
def test_help(monkeypatch, capsys, name):
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, name, "--help")
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert f"python -m benchmarks.{name}" in printed and "--pairs" in printed


@pytest.mark.parametrize("name", FIGURES)
def test_figures_and_status(monkeypatch, capsys, name):
    command = importlib.import_module(f"benchmarks.{name}")
    for module in (measure, command):
        monkeypatch.setattr(module, "run_json", lambda *_: dict(MADE_UP), raising=False)
    monkeypatch.setattr(command, "peer_python", lambda name: Path("python"), raising=False)
    sizes = [] if name in WITHOUT_SIZE else ["--img_size", "64"]
    status = call(monkeypatch, name, "--pairs", "3", *sizes, *SMALL.get(name, []))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("figure=")]
    assert all(LINE.fullmatch(line) for line in lines)
    expected, kept = FIGURES[name]
    ratios = {
        words[0]: float(words[3])
        for words in ([w.partition("=")[2] for w in line.split()] for line in lines)
    }
    assert ratios == pytest.approx(expected)
    assert status == (0 if kept else 1)


def test_startup_keeps_its_figures(monkeypatch, capsys):
    """The one real run here; its bound is held on a quiet machine, not in a test."""
    assert call(monkeypatch, "startup", "--pairs", "1") in (0, 1)
    assert (
        len(re.findall(r"^figure=startup_\w+ ours=[\d.]+ peer=-", capsys.readouterr().out, re.M))
        == 2
    )


def test_coco_eval_runs_small(monkeypatch, capsys):
    monkeypatch.setattr(coco_eval, "peer_python", lambda name: Path(sys.executable))
    call(monkeypatch, "coco_eval", "--pairs", "1", "--images", "5")
    first, second = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("figure=")
    ]
    assert LINE.fullmatch(first) and first.startswith("figure=coco_eval ")
    assert float(second.split()[1].removeprefix("ours=")) <= 1e-6


def test_coco_scale_compares_memory_with_a_small_set_and_with_its_start(monkeypatch, capsys):
    def measured(command):
        is_small = str(command[command.index("--data_dir") + 1]).endswith("small")
        pss_mb = [200.0] * 60
        uss_mb = [90.0] * 20 + [40.0] * 20 + [45.0 if is_small else 50.0] * 20
        times = {"imported_s": 5.0, "read_s": 50.0, "first_s": 61.0, "peak_gb": 1.5}
        return {**times, "pss_mb": pss_mb, "uss_mb": uss_mb}

    monkeypatch.setattr(measure, "run_json", measured)
    small = ("--images", "200", "--boxes", "900", "--img_size", "64")
    assert call(monkeypatch, "coco_scale", *small) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if "=" in line] == [
        "figure=coco_scale_64_first_batch_s ours=61 peer=- ratio=61 bound=60",
        "figure=coco_scale_64_uss_mb ours=50 peer=45 ratio=1.111 bound=1.2",
        "figure=coco_scale_64_uss_mb_flat ours=50 peer=40 ratio=1.25 bound=1.1",
    ]


def test_nms_case_holds_what_it_says():
    anchors = ModelConfig().anchor_set
    maps = nms.made_maps(anchors, 3000)
    assert sum(one[:: one.shape[0] // 3][0].size * 3 for one in maps) == 22743
    boxes, scores, _ = nms.all_candidates(maps, anchors)
    assert boxes.shape == (3000, 4) and scores.min() > 0.001
    maps_again = nms.made_maps(anchors, 3000)
    assert all((one == other).all() for one, other in zip(maps, maps_again, strict=True))


def test_a_failing_or_missing_command_fails_the_whole(monkeypatch, capsys):
    lines = {"startup": (["figure=a ours=1 peer=- ratio=1 bound=2\n"], 0), "nms": ([], 1)}
    monkeypatch.setattr(benchmarks_main, "run", lambda name, words: lines[name])
    assert benchmarks_main.main(["--only", "startup"]) == 0
    assert benchmarks_main.main(["--only", "startup", "nms"]) == 1
    assert capsys.readouterr().out.endswith("missed or failed: nms\n")


def test_a_batch_is_the_same_each_time_and_full(tmp_path):
    config = recipe(96)
    first, second = (dict(np.load(write_batch(tmp_path / f"{k}.npz", config, 2))) for k in range(2))
    assert all((first[name] == second[name]).all() for name in first)
    assert first["images"].shape == (2, 3, 96, 96) and first["images"].dtype == np.uint8
    assert first["match_values"][:, WEIGHT_OBJECT].sum(axis=1).min() > 20
    assert first["match_ids"][:, 1].max() < CLASSES
    assert first["gains"].tolist() == [
        config.loss.box_gain,
        config.loss.obj_gain,
        config.loss.cls_gain,
    ]

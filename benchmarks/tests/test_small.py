"""Measuring processes on the smallest settings, and that all of them still load."""

import importlib
import subprocess
import sys

import pytest

from benchmarks.common.made_coco import ANNOTATIONS, CLASSES, write_coco
from benchmarks.common.measure import REPOSITORY, run_module
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.split import read_split

MEASURING = (
    *("ours", "classifier_ours", "loader_ours", "first_batch", "loop"),
    *("made_checkpoint", "profiled_step", "backend_differences", "deploy_ours"),
)


@pytest.mark.parametrize("name", MEASURING)
def test_measuring_modules_load(name):
    assert importlib.import_module(f"benchmarks.common.{name}") is not None


@pytest.mark.slow
def test_compile_on_a_small_network():
    small = ["--img_size", "64", "--width", "0.1", "--depth", "0.1", "--pairs", "1"]
    command = [sys.executable, "-m", "benchmarks.compile", *small, "--steps", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # 1: slower than the bound
    assert "figure=compile_64 ours=" in done.stdout
    assert "the losses differ" not in done.stdout


def test_a_made_coco_set_has_the_images_and_boxes_that_were_asked_for(tmp_path):
    write_coco(tmp_path / "set", images=300, boxes=2000)
    data = DataConfig(format="coco", root=str(tmp_path / "set"), train=ANNOTATIONS)
    dataset = read_split(data, "train")
    assert (len(dataset), len(dataset.class_names), dataset.warnings) == (300, CLASSES, ())
    assert sum(len(record.class_ids) for record in dataset.records) == 2000
    assert 0 < sum(int(record.crowd.sum()) for record in dataset.records) < 60
    assert len({record.path for record in dataset.records}) == 300


@pytest.mark.slow
def test_first_batch_of_a_small_set(tmp_path):
    write_coco(tmp_path / "set", images=60, boxes=400)
    small = {"img_size": 64, "batch": 2, "steps": 3}
    measured = run_module("common.first_batch", data_dir=tmp_path / "set", **small)
    assert 0 < measured["imported_s"] < measured["read_s"] < measured["first_s"]
    assert len(measured["uss_mb"]) == 3
    assert all(uss < pss for uss, pss in zip(measured["uss_mb"], measured["pss_mb"], strict=True))

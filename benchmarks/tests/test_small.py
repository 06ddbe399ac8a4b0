"""Measuring processes on the smallest settings, and that all of them still load."""

import importlib
import subprocess
import sys

import pytest

from benchmarks.common.made_coco import ANNOTATIONS, CLASSES, write_coco
from benchmarks.common.measure import REPOSITORY
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.split import read_split

MEASURING = (
    *("ours", "classifier_ours", "loader_ours", "first_batch", "loop"),
    *("made_checkpoint", "profiled_step"),
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
def test_coco_scale_on_a_small_set():
    small = ["--img_size", "64", "--batch", "2", "--steps", "6", "--images", "200"]
    command = [sys.executable, "-m", "benchmarks.coco_scale", *small, "--boxes", "1400"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    names = ("first_batch_s", "pss_mb", "uss_mb_flat")
    values = [done.stdout.partition(f"figure=coco_scale_64_{name} ours=")[2] for name in names]
    assert all(float(value.split()[0]) > 0 for value in values)

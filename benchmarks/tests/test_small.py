"""Measuring processes on the smallest settings, and that all of them still load."""

import importlib
import subprocess
import sys

import pytest

from benchmarks.common.measure import REPOSITORY

MEASURING = ("ours", "classifier_ours", "loader_ours", "loop", "made_checkpoint", "profiled_step")


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

"""Fixtures shared by all tests."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_runtest_setup() -> None:
    """Fix the device before any test runs a kernel: MindSpore refuses it afterwards, even the same one."""
    mindspore = sys.modules.get("mindspore")
    if mindspore is not None and not getattr(pytest_runtest_setup, "done", False):
        mindspore.set_device("CPU")
        pytest_runtest_setup.done = True


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of small real data sets; skip where it is absent."""
    root = Path(os.environ.get("MINDYOLO_V4_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real data: set MINDYOLO_V4_DATA to its folder")
    return root


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(0)

"""Fixtures shared by all tests."""

import os
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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

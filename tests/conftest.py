"""Fixtures shared by all tests."""

import collections
import functools
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4 import environment

environment.prepare()  # before any test loads OpenCV or MindSpore
REPOSITORY = Path(__file__).resolve().parent.parent
if "PYTEST_XDIST_WORKER" in os.environ:
    # One of several test processes: the threads of each would only wait for cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the test processes that pytest-xdist starts, where it is installed.

    With large pages graphs compile in five sixths of the time. MindSpore's own allocator would do
    as well, but OpenVINO aborts with it.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # its order is by the number of tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that hold many slow tests: at the end, one of them would run alone."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_runtest_setup() -> None:
    """Give every test the device and the mode with which MindSpore starts.

    The device is fixed before any test runs a kernel: later MindSpore refuses, even the same one.
    A command that a test runs leaves graph mode behind, in which single operators compile.
    """
    if "mindspore" in sys.modules:
        fix_device()
        mindspore = sys.modules["mindspore"]
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def pytest_runtest_teardown() -> None:
    """Close the log files that a command leaves open: their folder may be gone at the next line."""
    logger = logging.getLogger("mindyolo_v4")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        with suppress(OSError):  # its disk may be full
            handler.close()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@functools.cache
def fix_device() -> None:
    """Choose the CPU, once per process, and hide what is loaded from the garbage collector.

    MindSpore calls the collector before each compilation.
    """
    sys.modules["mindspore"].set_device("CPU")
    gc.collect()
    gc.freeze()


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


@contextmanager
def _mode(name: str) -> Iterator[None]:
    """Run MindSpore in a mode; it is loaded here, since most tests do without."""
    import mindspore as ms

    before = ms.get_context("mode")
    ms.set_context(mode={"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}[name])
    try:
        yield
    finally:
        ms.set_context(mode=before)


@pytest.fixture
def graph_mode() -> Iterator[None]:
    """Compile cells as graphs."""
    with _mode("graph"):
        yield


@pytest.fixture
def pynative_mode() -> Iterator[None]:
    """Run cells operator by operator."""
    with _mode("pynative"):
        yield


@pytest.fixture(params=["graph", "pynative"])
def any_mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once in each mode."""
    with _mode(request.param):
        yield request.param

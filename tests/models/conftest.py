"""Fixtures of the network tests."""

from collections.abc import Iterator

import mindspore as ms
import pytest


@pytest.fixture
def graph_mode() -> Iterator[None]:
    """Compile cells as graphs."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=before)


@pytest.fixture
def pynative_mode() -> Iterator[None]:
    """Run cells operator by operator."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=before)

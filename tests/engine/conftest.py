"""MindSpore in graph mode for every engine test, and the tiny networks on the path."""

import sys
from pathlib import Path

import mindspore as ms
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["graph"])
def graph_mode(request) -> str:
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    return request.param


@pytest.fixture(params=["graph", "pynative"])
def any_mode(request):
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=ms.GRAPH_MODE)

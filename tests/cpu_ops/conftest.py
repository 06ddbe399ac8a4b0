"""The compiled operators, and the path to what the tests of this room share."""

from pathlib import Path

import pytest

from mindyolo_v4.cpu_ops.build import BuildError, find_compiler
from mindyolo_v4.cpu_ops.norm_act import fused_library


@pytest.fixture
def library(graph_mode: None) -> Path:
    """Return the compiled operators; skip where there is no compiler."""
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    return fused_library()

"""The checker finds each fault that must not be in a graph for Ascend."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mindyolo_v4.tools.ascend_dry_run.recording import Recording
from mindyolo_v4.tools.ascend_dry_run.run import run_recorded

pytestmark = pytest.mark.slow
LEVELS = ("O2", "O0")
REFUSED = "The GE backend does not support subgraph sink and heterogeneous scenarios"
FAULTS = {  # what is said of each at the jit levels; O0 has no rule for two of them
    "ai_cpu": {"O2": "1 CustSliceGrad run on the AI CPU"},
    "python": {"O2": REFUSED, "O0": "nodes run in Python"},
    "cpu": {"O2": "got no whole graph", "O0": "1 Eigh run on the CPU"},
    "parameter": {"O2": REFUSED},
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Recording]:
    folder = tmp_path_factory.mktemp("faulty")
    names = [f"{cell}.{level}" for level in LEVELS for cell in ("healthy", *FAULTS)]
    program = Path(__file__).with_name("faulty.py")
    return run_recorded([sys.executable, str(program), str(folder)], folder, names)


@pytest.mark.parametrize("level", LEVELS)
def test_a_healthy_cell_has_no_findings(cells: Mapping[str, Recording], level: str) -> None:
    assert cells[f"healthy.{level}"].findings() == []


@pytest.mark.parametrize(
    ("cell", "level", "finding"),
    [(cell, level, text) for cell, found in FAULTS.items() for level, text in found.items()],
)
def test_a_fault_is_found(
    cells: Mapping[str, Recording], cell: str, level: str, finding: str
) -> None:
    assert finding in "\n".join(cells[f"{cell}.{level}"].findings())

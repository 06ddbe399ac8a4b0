"""The checker finds each fault that must not be in a graph for Ascend."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mindyolo_v4.tools.ascend_dry_run.recording import Recording
from mindyolo_v4.tools.ascend_dry_run.run import run_recorded, variables

pytestmark = pytest.mark.slow
LEVELS = ("O2", "O0")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Recording]:
    folder = tmp_path_factory.mktemp("faulty")
    names = [f"{cell}.{level}" for level in LEVELS for cell in ("healthy", *FAULTS)]
    program = Path(__file__).with_name("faulty.py")
    return run_recorded([sys.executable, str(program), str(folder)], folder, names, variables())


FAULTS = {
    "ai_cpu": {"O2": "1 CustSliceGrad run on the AI CPU", "O0": None},
    "python": {"O2": "PyExecute", "O0": "PyExecute"},
    "parameter": {"O2": "graphs for the graph engine", "O0": None},
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_healthy_cell_has_no_findings(cells: Mapping[str, Recording], level: str) -> None:
    assert cells[f"healthy.{level}"].findings() == []


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cell", FAULTS)
def test_a_fault_is_found(cells: Mapping[str, Recording], cell: str, level: str) -> None:
    expected = FAULTS[cell][level]
    if expected is None:
        pytest.skip("only the graph engine of O2 refuses this")
    assert expected in "\n".join(cells[f"{cell}.{level}"].findings())

"""Traces of optimizer steps, written by MindSpore's profiler on CPU."""

import json
from pathlib import Path

import pytest

from mindyolo_v4.engine.step_profiler import FOLDER
from tests.support.runs import rows
from tests.support.tiny_task import RUNTIME, Task, config, fit

pytestmark = pytest.mark.usefixtures("graph_mode")


def traced_steps(folder: Path) -> int:
    """Return how often a trace's convolutions ran, by the table of its operators."""
    (trace,) = (folder / FOLDER).rglob("ASCEND_PROFILER_OUTPUT/trace_view.json")
    assert any("Conv2D" in event["name"] for event in json.loads(trace.read_text()))
    (table,) = (folder / FOLDER).rglob("cpu_op_detail_info_0.csv")
    (count,) = {row["op_occurrences"] for row in rows(table) if row["op_type"] == "Conv2D"}
    return int(count)


@pytest.mark.parametrize(
    ("steps", "max_steps", "expected"),
    [
        ((2, 4), None, 3),
        ((5, 100), 6, 2),  # the training ends before the last one
    ],
)
def test_the_trace_holds_the_steps_asked_for(tmp_path, steps, max_steps, expected):
    task = Task()
    result = fit(task.parts(), config(profile_steps=steps, max_steps=max_steps), RUNTIME, tmp_path)
    assert result.state.step == (max_steps or 8)
    assert traced_steps(tmp_path) == expected


def test_without_the_option_there_is_no_trace(tmp_path):
    fit(Task().parts(), config(epochs=1), RUNTIME, tmp_path)
    assert not (tmp_path / FOLDER).exists()

"""Device, parallel start, fall-backs, run folder and logger."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime import device as runtime


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(runtime, "_is_available", lambda target: target == "CPU")


def test_start_on_cpu(cpu_only):
    found = runtime.start(Config(seed=5))
    assert (found.device_target, found.ms_mode, found.amp_level) == ("CPU", "graph", "O0")
    assert (found.ranks.rank, found.ranks.size) == (0, 1)
    assert ms.get_context("device_target") == "CPU"
    assert ms.get_context("mode") == ms.GRAPH_MODE
    assert any("jit_level O2" in note and "CPU" in note for note in found.notes)
    first = draws()
    runtime.start(Config(seed=5))
    assert draws() == first


def draws() -> list[float]:
    """Return numbers of both global generators."""
    return [np.random.rand(), *ms.ops.rand(2).asnumpy().tolist()]  # noqa: NPY002 - the one that start() seeds


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_absent_device_is_one_line_that_names_the_remedy(cpu_only, target):
    with pytest.raises(
        UserError, match=f"--device_target: {target} is not available.*--device_target CPU"
    ) as error:
        runtime.start(replace(Config(), device_target=target))
    assert "\n" not in str(error.value)


def test_absent_device_comes_before_joining_the_others(cpu_only, monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("MS_WORKER_NUM", "8")
    monkeypatch.setattr(runtime, "_join_workers", lambda *_: pytest.fail("joined"))
    with pytest.raises(UserError, match="--device_target CPU"):
        runtime.start(replace(Config(), device_target="Ascend"))


def test_a_dry_run_needs_no_device(monkeypatch):
    monkeypatch.setattr(runtime.device_context.ascend, "is_available", lambda: True)
    monkeypatch.setattr(runtime.device_context.ascend, "device_count", lambda: 0)
    monkeypatch.delenv("MS_SIMULATION_LEVEL", raising=False)
    with pytest.raises(UserError, match="Ascend is not available"):
        runtime.choose_device("Ascend")
    monkeypatch.setenv("MS_SIMULATION_LEVEL", "1")
    assert runtime.choose_device("Ascend") == "Ascend"


def test_real_detection_is_quiet_and_does_not_fail():
    code = (
        "from mindyolo_v4 import environment\n"
        "environment.prepare()\n"
        "from mindyolo_v4.runtime import device as runtime\n"
        "choose = runtime.choose_device\n"
        "print(choose('auto') in ('CPU', 'GPU', 'Ascend'), choose('CPU'))"
    )
    variables = {name: value for name, value in os.environ.items() if name != "GLOG_v"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=True
    )
    assert done.stdout.split() == ["True", "CPU"]
    assert done.stderr == ""


MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2"}


@pytest.mark.parametrize(
    ("option", "variables", "expected"),
    [
        ("auto", {}, False),
        ("auto", MSRUN, True),
        ("True", MSRUN, True),
        ("auto", MSRUN | {"MS_WORKER_NUM": "1"}, False),
        ("True", MSRUN | {"MS_WORKER_NUM": "1"}, False),
        ("False", MSRUN | {"MS_WORKER_NUM": "1"}, False),
        ("False", {}, False),
        ("True", {"RANK_TABLE_FILE": "x.json", "RANK_SIZE": "8"}, True),
    ],
)
def test_choose_parallel(option, variables, expected):
    assert runtime.choose_parallel(option, variables) is expected


def test_choose_parallel_refuses_contradictions():
    with pytest.raises(UserError, match="--is_parallel: msrun started 2 workers"):
        runtime.choose_parallel("False", MSRUN)
    with pytest.raises(UserError, match=r"--is_parallel: this process is alone.*msrun"):
        runtime.choose_parallel("True", {})


def test_choose_amp_level():
    notes: list[str] = []
    assert runtime.choose_amp_level("auto", "Ascend", notes) == "O2"
    assert runtime.choose_amp_level("auto", "CPU", notes) == "O0"
    assert notes == []
    assert runtime.choose_amp_level("O3", "CPU", notes) == "O3"
    assert "slower" in notes[0]


def test_refused_jit_level_falls_back_with_a_reason(monkeypatch):
    def refuse(jit_config):
        if jit_config["jit_level"] == "O2":
            raise ValueError("O2 is gone\nmore")

    monkeypatch.setattr(runtime.ms, "set_context", refuse)
    notes: list[str] = []
    assert runtime._set_jit_level("O2", "Ascend", notes) == "O1"
    assert notes[0].endswith("O2 is gone")


class TwoMaps(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, has_bias=False)
        self.bn = nn.BatchNorm2d(4, momentum=0.9)

    def construct(self, x):
        y = self.bn(self.conv(x))
        return y, y * 2.0


def test_mixed_precision_keeps_names_and_float32_outputs():
    from mindyolo_v4.checkpoint.parameters import batch_norms, named_parameters

    ms.set_context(mode=ms.GRAPH_MODE)
    network = TwoMaps()
    names = list(named_parameters(network))
    assert runtime.to_mixed_precision(network, "O0") is network
    mixed = runtime.to_mixed_precision(network, "O2")
    assert sorted(named_parameters(mixed)) == sorted(names)
    assert list(batch_norms(mixed)) == ["bn"]
    maps = mixed.set_train(True)(Tensor(np.ones((1, 3, 2, 2), np.float32)))
    assert [level.dtype for level in maps] == [ms.float32, ms.float32]
    assert {value.dtype for value in named_parameters(mixed).values()} == {ms.float32}


def test_peak_memory_is_the_kernels_own_count():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = int(status["VmHWM"].split()[0])
    assert runtime.peak_memory_gb() == pytest.approx(kilobytes * 1024 / 1e9, rel=0.02)

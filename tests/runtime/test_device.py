"""Device, parallel start, fall-backs, memory."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.heartbeat import Heartbeat
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
    assert (found.jit_level, found.notes) == ("default", ())
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


@pytest.mark.slow
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
        ("auto", {"RANK_SIZE": "", "MS_WORKER_NUM": "x"}, False),  # of an ordinary run's shell
    ],
)
def test_choose_parallel(option, variables, expected):
    assert runtime.choose_parallel(option, variables) is expected


def test_choose_parallel_refuses_contradictions():
    with pytest.raises(UserError, match="--is_parallel: msrun started 2 workers"):
        runtime.choose_parallel("False", MSRUN)
    with pytest.raises(UserError, match=r"--is_parallel: this process is alone.*msrun"):
        runtime.choose_parallel("True", {})
    with pytest.raises(UserError, match=r"RANK_SIZE: not a number of processes \(got 8x\)"):
        runtime.choose_parallel("auto", {"RANK_TABLE_FILE": "x.json", "RANK_SIZE": "8x"})


@pytest.mark.parametrize(
    ("level", "device", "version", "expected", "note"),
    [
        ("auto", "Ascend", (2, 7), "O2", "jit_level auto: O2"),
        ("auto", "Ascend", (2, 8), "O2", "jit_level auto: O2"),
        ("auto", "Ascend", (2, 9), "O1", "deprecates O2 from 2.9 on"),
        ("auto", "Ascend", (2, 10), "O1", "deprecates O2 from 2.9 on"),
        ("O2", "Ascend", (2, 8), "O2", ""),
        ("O2", "Ascend", (2, 10), "O2", "deprecates it from 2.9 on"),
        ("O0", "Ascend", (2, 10), "O0", ""),
        ("auto", "CPU", (2, 8), "default", ""),
        ("auto", "GPU", (2, 8), "default", ""),
        ("O2", "CPU", (2, 8), "O2", "no effect on CPU"),
    ],
)
def test_jit_level_follows_device_and_version(level, device, version, expected, note):
    notes: list[str] = []
    assert runtime.choose_jit_level(level, device, version, notes) == expected
    assert len(notes) == (1 if note else 0)
    assert note in "".join(notes)


@pytest.mark.parametrize(
    ("device", "variables", "expected"),
    [
        ("Ascend", {"DEVICE_ID": "3"}, 3),
        ("Ascend", {"DEVICE_ID": "5", "RANK_TABLE_FILE": "x.json"}, 5),
        ("Ascend", {"DEVICE_ID": "3", "MS_ROLE": "MS_WORKER"}, None),  # msrun: MindSpore chooses
        ("Ascend", {}, None),
        ("CPU", {"DEVICE_ID": "3"}, None),
    ],
)
def test_device_id_of_single_devices_and_rank_tables(device, variables, expected):
    assert runtime.choose_device_id(device, variables) == expected


@pytest.mark.parametrize("text", ["npu0", "", "-1", "1.5"])
def test_device_id_that_is_no_number(text):
    with pytest.raises(UserError, match=r"^DEVICE_ID: is not the number of a device"):
        runtime.choose_device_id("Ascend", {"DEVICE_ID": text})


def test_deterministic_operators_are_asked_for_before_the_others_are_joined(cpu_only, monkeypatch):
    calls = []
    monkeypatch.setattr(runtime.ms, "set_deterministic", lambda value: calls.append(value))
    monkeypatch.setattr(runtime, "choose_parallel", lambda *_: True)
    monkeypatch.setattr(runtime, "_join_workers", lambda *_: calls.append("joined"))
    runtime.start(Config())
    runtime.start(Config(train=TrainConfig(deterministic=True)))
    assert calls == ["joined", True, "joined"]


def test_an_error_of_mindspore_keeps_its_text(monkeypatch):
    def init():
        raise RuntimeError("EI0006: socket of HCCL\nlast line")

    told = []
    monkeypatch.setattr(runtime.communication, "init", init)
    monkeypatch.setattr(runtime, "check_port", lambda variables: None)
    heartbeat = Heartbeat()
    monkeypatch.setattr(heartbeat, "start", lambda hang_s, pause_s: None)
    monkeypatch.setattr(heartbeat, "failed", told.append)
    with pytest.raises(RuntimeError, match=r"^EI0006: socket of HCCL\nlast line$"):
        runtime._join_workers(TrainConfig(), heartbeat)
    assert told == ["RuntimeError: EI0006: socket of HCCL last line"]


def test_peak_memory_is_the_kernels_own_count():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = int(status["VmHWM"].split()[0])
    assert runtime.peak_memory_gb() == pytest.approx(kilobytes * 1024 / 1e9, rel=0.02)


def test_peak_memory_of_the_device_is_told_beside_it(monkeypatch):
    monkeypatch.setattr(runtime, "peak_memory_gb", lambda: 3.256)
    monkeypatch.setattr(runtime.ms.runtime, "max_memory_allocated", lambda: 25 * 10**9)
    assert runtime.describe_peak_memory("CPU") == "peak memory 3.26 GB"
    assert runtime.describe_peak_memory("Ascend") == "peak memory 3.26 GB, of the Ascend 25.00 GB"

"""Device, parallel start, fall-backs, run folder and logger."""

import logging
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
    monkeypatch.setattr(runtime, "_is_there", lambda target: target == "CPU")


def test_start_on_cpu(cpu_only):
    found = runtime.start(Config(seed=5))
    assert (found.device_target, found.ms_mode, found.amp_level) == ("CPU", "graph", "O0")
    assert (found.rank, found.world_size) == (0, 1)
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
    monkeypatch.setattr(runtime, "_join_workers", lambda: pytest.fail("joined"))
    with pytest.raises(UserError, match="--device_target CPU"):
        runtime.start(replace(Config(), device_target="Ascend"))


def test_real_detection_is_quiet_and_does_not_fail():
    code = (
        "import mindyolo_v4.environment\n"
        "from mindyolo_v4 import runtime\n"
        "print(runtime.choose_device('auto') in ('CPU', 'GPU', 'Ascend'), runtime.choose_device('CPU'))"
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


def test_default_run_folder_counts_on(tmp_path):
    root = tmp_path / "runs"
    make = lambda allow=False: runtime.make_run_folder(None, "yolov4", allow, runs_root=root)  # noqa: E731
    assert [make().name, make().name] == ["yolov4-1", "yolov4-2"]
    (root / "yolov4-10").mkdir()
    (root / "yolov4-tiny-40").mkdir()
    assert make().name == "yolov4-11"
    assert make(True).name == "yolov4-11"


def test_given_run_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    assert runtime.make_run_folder(folder, "x", False) == folder
    (folder / "last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"--save_dir: is not empty.*--resume"):
        runtime.make_run_folder(folder, "x", False)
    with pytest.raises(UserError, match="--exist_ok"):
        runtime.make_run_folder(folder, "x", False, permission="--exist_ok")
    assert runtime.make_run_folder(folder, "x", True) == folder
    with pytest.raises(UserError, match="is a file"):
        runtime.make_run_folder(folder / "last.ckpt", "x", True)


def test_logger_writes_file_and_console(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime.environment, "notes", lambda: ())
    kept = list(runtime.PACKAGE_LOGGER.handlers), runtime.PACKAGE_LOGGER.propagate
    try:
        runtime.setup_logger(tmp_path, 0)
        runtime.setup_logger(tmp_path, 0)  # a second time doubles nothing
        logging.getLogger("mindyolo_v4.engine.loop").info("hello")
        assert capsys.readouterr().err == "hello\n"
        assert (tmp_path / "train.log").read_text().count("INFO hello") == 1
        runtime.setup_logger(tmp_path, 1)
        logging.getLogger("mindyolo_v4.engine.loop").info("hidden")
        logging.getLogger("mindyolo_v4.engine.loop").warning("seen")
        assert "hidden" not in (captured := capsys.readouterr().err)
        assert "seen" in captured
        monkeypatch.setattr(runtime.environment, "notes", lambda: ("AVX2 was set",))
        runtime.setup_logger(tmp_path, 0)
        assert capsys.readouterr().err == "AVX2 was set\n"
        runtime.setup_logger(tmp_path, 1)  # the first worker has said it
        assert capsys.readouterr().err == ""
    finally:
        for handler in list(runtime.PACKAGE_LOGGER.handlers):
            runtime.PACKAGE_LOGGER.removeHandler(handler)
            handler.close()
        runtime.PACKAGE_LOGGER.propagate = kept[1]
        runtime.PACKAGE_LOGGER.setLevel(logging.NOTSET)


def test_each_of_several_ranks_has_its_log(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime.environment, "notes", lambda: ())
    propagate = runtime.PACKAGE_LOGGER.propagate
    try:
        for rank in (0, 1):
            runtime.setup_logger(tmp_path / "run", rank, world_size=2)
            logging.getLogger("mindyolo_v4.engine.loop").info("step of %d", rank)
        names = {path.name: path.read_text() for path in (tmp_path / "run").iterdir()}
        assert sorted(names) == ["rank_0.log", "rank_1.log", "train.log"]
        assert names["train.log"] == names["rank_0.log"]
        assert names["rank_1.log"].endswith("INFO step of 1\n")
        assert capsys.readouterr().err == "step of 0\n"
    finally:
        for handler in list(runtime.PACKAGE_LOGGER.handlers):
            runtime.PACKAGE_LOGGER.removeHandler(handler)
            handler.close()
        runtime.PACKAGE_LOGGER.propagate = propagate
        runtime.PACKAGE_LOGGER.setLevel(logging.NOTSET)


def test_peak_memory_is_the_kernels_own_count():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = int(status["VmHWM"].split()[0])
    assert runtime.peak_memory_gb() == pytest.approx(kilobytes * 1024 / 1e9, rel=0.02)


def test_counts_of_one_device_are_their_own_sums():
    assert runtime.sum_over_ranks([3, 0, 50000], 1) == [3, 0, 50000]


def test_counts_are_summed_exactly(monkeypatch):
    monkeypatch.setattr(
        runtime.ops, "AllReduce", lambda operation: lambda own: Tensor(own.asnumpy() * 8)
    )
    assert runtime.sum_over_ranks([1281167, 7], 8) == [8 * 1281167, 56]  # below 2^24

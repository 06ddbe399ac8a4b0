"""The compile cache: a key for everything that shapes the graph, whole entries only, and equal bits when it is read."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from benchmarks.made_batch import recipe, write_batch
from mindyolo_v4 import compile_cache
from mindyolo_v4.compile_cache import (
    CompileCache,
    graph_facts,
    key_of,
    parameters_outside,
    prune,
    read_entry,
    sources_digest,
    write_entry,
)
from mindyolo_v4.config import build_config
from mindyolo_v4.runtime import Runtime
from tests.cached_training import NARROW

REPOSITORY = Path(__file__).resolve().parent.parent
RUNTIME = Runtime("CPU", "graph", "O2", "O0", rank=0, world_size=1, notes=())


class Small(nn.Cell):
    """One weight, one attribute, one constant, one operator."""

    def __init__(self, slope: float = 0.1, constant: float = 1.0, keep_dims: bool = False):
        super().__init__()
        self.slope, self.constant = slope, Tensor([constant], ms.float32)
        self.mean = ops.ReduceMean(keep_dims)
        self.weight = Parameter(Tensor(np.ones(3, np.float32)), name="weight")

    def construct(self, x):
        return self.mean(x * self.weight * self.slope + self.constant)


class Other(Small):
    """The same attributes in another class."""


def frozen(cell: nn.Cell) -> nn.Cell:
    cell.weight.requires_grad = False
    return cell


def key(tree: dict | None = None, batch: tuple[int, ...] = (2, 3), dtype=ms.float32, **changes) -> str:
    """Return the key of a graph that differs from the plain one as the arguments say."""
    inputs = (ops.zeros(batch, dtype),)
    runtime = replace(RUNTIME, **changes.pop("runtime", {}))
    graphs = changes.pop("graphs", None) or (Small(),)
    return key_of(graph_facts(build_config(tree or {}), runtime, changes.pop("operators", "stock"), graphs, inputs))


MUTATIONS = {
    "depth": {"tree": {"model": {"depth": 0.5}}},
    "activation": {"tree": {"model": {"neck_activation": "mish"}}},
    "loss setting": {"tree": {"loss": {"box_gain": 0.123}}},
    "momentum": {"tree": {"optimizer": {"momentum": 0.8}}},
    "accumulation": {"tree": {"train": {"accumulate": 2}}},
    "classes": {"tree": {"data": {"names": ["a", "b"]}}},
    "input size": {"tree": {"data": {"img_size": 96}}},
    "batch": {"batch": (1, 3)},
    "type of the input": {"dtype": ms.float16},
    "world size": {"runtime": {"world_size": 2}},
    "rank": {"runtime": {"rank": 1}},
    "device": {"runtime": {"device_target": "Ascend"}},
    "operator library": {"operators": "fused operators from /elsewhere.so"},
    "attribute of a cell": {"graphs": (Small(slope=0.2),)},
    "constant": {"graphs": (Small(constant=2.0),)},
    "attribute of an operator": {"graphs": (Small(keep_dims=True),)},
    "class of a cell": {"graphs": (Other(),)},
    "frozen parameter": {"graphs": (frozen(Small()),)},
    "one more graph": {"graphs": (Small(), Small())},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_graph_has_another_key(name):
    assert key(**MUTATIONS[name]) != key()


def test_the_same_graph_has_the_same_key_wherever_it_is_written():
    assert key() == key({"save_dir": "elsewhere", "compile_cache": "on"})
    assert len(key()) == 32


@pytest.mark.parametrize("name", ["MS_ENABLE_X", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS"])
def test_variables_count(monkeypatch, name):
    before = key()
    monkeypatch.setenv(name, "17")
    assert key() != before


@pytest.mark.parametrize("module", ["ms", "np"])
def test_versions_count(monkeypatch, module):
    before = key()
    monkeypatch.setattr(getattr(compile_cache, module), "__version__", "0.0")
    assert key() != before


def test_our_own_version_counts(monkeypatch):
    before = key()
    monkeypatch.setattr(compile_cache, "__version__", "0.0")
    assert key() != before


def test_the_processor_counts(monkeypatch, tmp_path):
    before = key()
    monkeypatch.setattr(compile_cache, "processor", lambda: ["another"])
    assert key() != before
    (tmp_path / "cpuinfo").write_text("model name\t: A\nflags\t: x\nmodel name\t: A\nflags\t: x\n")
    assert compile_cache.processor.__defaults__ is None  # the line above replaced it
    monkeypatch.undo()
    assert compile_cache.processor(tmp_path / "cpuinfo")[1:] == ["flags\t: x", "model name\t: A"]


def test_code_counts(monkeypatch, tmp_path):
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    (package / "a.py").write_text("x = 1")
    (package / "room" / "b.cc").write_text("int x;")
    digest = sources_digest(package)
    monkeypatch.setattr(compile_cache, "PACKAGE", package)
    before = key()
    (package / "room" / "b.cc").write_text("int y;")
    assert sources_digest(package) != digest and key() != before
    (package / "room" / "b.cc").write_text("int x;")
    assert sources_digest(package) == digest and key() == before
    (package / "room" / "c.h").write_text("int z;")
    assert sources_digest(package) != digest and key() != before
    (package / "room" / "c.h").unlink()
    (package / "a.py").rename(package / "c.py")
    assert sources_digest(package) != digest


def written(root: Path, name: str, content: bytes = b"graph") -> Path:
    """Write an entry as a run does."""
    scratch = root / f"scratch-{name}"
    (scratch / "rank_0").mkdir(parents=True)
    (scratch / "rank_0" / "a.mindir").write_bytes(content)
    write_entry(scratch, root / name)
    return root / name


def test_an_entry_reads_back(tmp_path):
    folder, scratch = written(tmp_path, "k"), tmp_path / "scratch"
    scratch.mkdir()
    assert list(read_entry(folder, scratch)) == ["rank_0/a.mindir"]
    assert (scratch / "rank_0" / "a.mindir").read_bytes() == b"graph"
    assert not (tmp_path / "scratch-k").exists()


@pytest.mark.parametrize("damage", ["cut", "missing", "no manifest", "empty manifest", "no JSON", "added", "a list"])
def test_a_damaged_entry_is_removed_and_made_again(tmp_path, damage):
    folder, scratch = written(tmp_path, "k"), tmp_path / "scratch"
    scratch.mkdir()
    file, manifest = folder / "rank_0" / "a.mindir", folder / "manifest.json"
    {
        "cut": lambda: file.write_bytes(b"gra"),
        "missing": file.unlink,
        "no manifest": manifest.unlink,
        "empty manifest": lambda: manifest.write_text("{}"),
        "no JSON": lambda: manifest.write_text("{"),
        "added": lambda: manifest.write_text('{"rank_0/a.mindir": "0"}'),
        "a list": lambda: manifest.write_text("[1]"),
    }[damage]()
    assert read_entry(folder, scratch) == {}
    assert not folder.exists() and list(scratch.iterdir()) == []
    assert read_entry(written(tmp_path, "k"), scratch) != {}


def test_the_first_of_two_writers_wins(tmp_path):
    folder = written(tmp_path, "k", b"first")
    assert (written(tmp_path, "k", b"second") / "rank_0" / "a.mindir").read_bytes() == b"first"
    assert folder.is_dir()


def test_the_least_used_are_removed(tmp_path):
    for number, name in enumerate("abcd"):
        os.utime(written(tmp_path, name) / "manifest.json", (number, number))
    old, new = tmp_path / "scratch-old", tmp_path / "scratch-new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (1, 1))
    read_entry(tmp_path / "a", new)
    assert time.time() - (tmp_path / "a" / "manifest.json").stat().st_mtime < 3600
    prune(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "d", "scratch-new"}


def test_a_parameter_that_no_cell_holds_is_found(tmp_path):
    """A graph that is read gives it arbitrary values: with a loss scaler's, gradients were 1e15 times too large."""
    model, cell = ModelProto(), Small()
    model.graph.parameter.add().name = f"1_construct_1:{cell.weight.name}"
    path = tmp_path / "rank_0" / "graph_cache" / "compile_cache_0.mindir"
    path.parent.mkdir(parents=True)
    path.write_bytes(model.SerializeToString())
    assert parameters_outside((cell,), tmp_path) == []
    model.graph.parameter.add().name = "1_construct_1:scale_value"
    path.write_bytes(model.SerializeToString())
    assert parameters_outside((cell,), tmp_path) == ["scale_value"]


@pytest.mark.parametrize(
    ("tree", "runtime", "reason"),
    [
        ({}, {}, "compile_cache: off"),
        ({"compile_cache": "on"}, {"world_size": 2}, "one CPU device"),
        ({"compile_cache": "on"}, {"device_target": "Ascend"}, "one CPU device"),
        ({"compile_cache": "on"}, {"ms_mode": "pynative"}, "graph mode"),
        ({"compile_cache": "on"}, {"amp_level": "O2"}, "float32"),
        ({"compile_cache": "on", "train": {"loss_scale": "static"}}, {}, "loss scale"),
    ],
)
def test_where_it_is_off_and_says_so(tree, runtime, reason):
    cache = CompileCache(build_config(tree), replace(RUNTIME, **runtime), "stock")
    assert reason in cache.line() and cache.line().startswith("compile cache: off")
    with cache.around_first_step((), ()):
        assert "MS_COMPILER_CACHE_ENABLE" not in os.environ


def test_the_users_own_cache_is_left_alone(monkeypatch):
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", "1")
    cache = CompileCache(build_config({"compile_cache": "on"}), RUNTIME, "stock")
    assert "MS_COMPILER_CACHE_ENABLE is set" in cache.line()


def test_a_folder_that_cannot_be_made_breaks_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path / "file"))
    cache = CompileCache(build_config({"compile_cache": "on"}), RUNTIME, "stock")
    with cache.around_first_step((Small(),), (ops.zeros((2, 3), ms.float32),)):
        assert "MS_COMPILER_CACHE_ENABLE" not in os.environ


def train(folder: Path, batch: int, settings: str, *overrides: str) -> dict:
    """Train in a process of its own with these settings of the cache, which is in the folder."""
    file = write_batch(folder / f"{batch}{'-'.join(overrides)}.npz", recipe(64, *NARROW), batch)
    variables = {**os.environ, "MINDYOLO_V4_CACHE": str(folder / "cache"), "PYTHONPATH": str(REPOSITORY)}
    variables["OMP_NUM_THREADS"] = "1"  # two such processes run at once
    command = [sys.executable, "-m", "tests.cached_training", str(file), settings, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_graph_that_was_read_trains_to_the_same_bits_and_a_changed_one_is_not_read(tmp_path):
    first = train(tmp_path, 2, "on,off")
    assert any("new, kept in" in line for line in first["said"])
    assert first["on"] == first["off"] and len(set(first["on"])) == 3
    runs = [(2, "on"), (1, "on"), (2, "on", "loss.box_gain=1.5")]
    with ThreadPoolExecutor(2) as pool:
        second, *changed = pool.map(lambda run: train(tmp_path, *run), runs)
    assert any("read from" in line for line in second["said"]) and not any("anew" in line for line in second["said"])
    assert second["on"] == first["on"]
    known = [first["on"]]
    for one in changed:
        assert any("new, kept in" in line for line in one["said"])
        assert one["on"] not in known
        known.append(one["on"])
    assert len(list((tmp_path / "cache" / "graphs").glob("*/manifest.json"))) == 3

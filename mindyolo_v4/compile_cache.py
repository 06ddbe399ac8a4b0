"""Keeps the compiled training graph from one run to the next, under a key that a changed graph cannot have.

MindSpore's own cache looks at source files only: with another depth, batch or loss setting it silently runs the old
graph. So it is never pointed at a folder that two different graphs could share. Each graph has a folder named by a
SHA-256 over everything that shapes it (`graph_facts`), below `graphs` in the folder of compiled operators. MindSpore
reads and writes a private copy, never that folder itself: a folder appears by one renaming after the first step has
succeeded, holds a digest of each file, and is thrown away where they do not fit.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.ops import Primitive
from mindspore.train.mind_ir_pb2 import ModelProto

from mindyolo_v4 import __version__
from mindyolo_v4.config import record_to_tree
from mindyolo_v4.cpu_ops.build import cache_folder
from mindyolo_v4.runtime import Runtime
from mindyolo_v4.schema.root import Config

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parent
MANIFEST = "manifest.json"
KEPT_GRAPHS = 8
_SCRATCH_PREFIX = "scratch-"
_OLD_SCRATCH_S = 86400
_SWITCH, _PATH = "MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"
_NOT_IN_THE_GRAPH = ("save_dir", "compile_cache")  # every other key counts, whether it shapes the graph or not
_VARIABLES = ("MS_", "MINDSPORE_", "ONEDNN_", "DNNL_", "OMP_", "KMP_", "MKL_", "ASCEND_", "RANK_")
_PLAIN = (bool, int, float, str, type(None))


class CompileCache:
    """The cache of one training; MindSpore takes one folder a process."""

    _taken = False

    def __init__(self, config: Config, runtime: Runtime, operators: str):
        """Decide whether the cache is on; `operators` says which fused operators the network has, and from where."""
        self.config, self.runtime, self.operators = config, runtime, operators
        self.root = cache_folder() / "graphs"
        self.reason_off = self._reason_off()

    def _reason_off(self) -> str | None:
        if self.config.compile_cache == "off":
            return "compile_cache: off"
        if self.runtime.device_target != "CPU" or self.runtime.ms_mode != "graph" or self.runtime.world_size > 1:
            return "it is for graph mode on one CPU device"
        if self.runtime.amp_level != "O0" or self.config.train.loss_scale not in ("auto", "none"):
            # MindSpore keeps a loss scaler's own parameters outside the cells, and a graph that was read lacks them.
            return "it is for float32 without a loss scale"
        if _SWITCH in os.environ:
            return f"{_SWITCH} is set: MindSpore's own cache, which does not notice a changed configuration"
        if not Path(sys.argv[0]).is_file():  # MindSpore reads that file
            return "the program was not started from a file"
        return "a training before in this process had it" if CompileCache._taken else None

    def line(self) -> str:
        """Return the line for the log's beginning."""
        return f"compile cache: off ({self.reason_off})" if self.reason_off else f"compile cache: on, in {self.root}"

    @contextmanager
    def around_first_step(self, graphs: Sequence[nn.Cell], batch: Sequence[Tensor]) -> Iterator[None]:
        """Have MindSpore read or write the graphs that compile inside the `with`; nothing where the cache is off."""
        if self.reason_off:
            yield
            return
        key = key_of(graph_facts(self.config, self.runtime, self.operators, graphs, batch))
        folder = self.root / key
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=self.root))
        except OSError as error:
            logger.warning("compile cache: off (%s)", error)
            yield
            return
        try:
            held = read_entry(folder, scratch)
            logger.info("compile cache: %s %s", "read from" if held else "new, kept in", folder)
            CompileCache._taken = True
            for graph in graphs:  # a graph that was read takes a parameter without values as it lies in memory
                graph.init_parameters_data()
            with _switched_on(scratch):
                yield
            if held and digests(scratch) != held:  # MindSpore checks the source files once more, and was not content
                logger.info("compile cache: MindSpore compiled anew")
                remove_entry(folder)
            if strangers := parameters_outside(graphs, scratch):
                logger.warning("compile cache: not kept, since these parameters are in no cell: %s", strangers)
            else:
                write_entry(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        prune(self.root, KEPT_GRAPHS)


@contextmanager
def _switched_on(folder: Path) -> Iterator[None]:
    os.environ |= {_SWITCH: "1", _PATH: str(folder)}
    try:
        yield
    finally:
        del os.environ[_SWITCH], os.environ[_PATH]


def graph_facts(
    config: Config, runtime: Runtime, operators: str, graphs: Sequence[nn.Cell], batch: Sequence[Tensor]
) -> dict[str, Any]:
    """Return everything that shapes the graphs, and more, as plain values.

    Args:
        operators: which fused operators the network has, and from which library.
        graphs: the cells that the first step compiles, in order.
        batch: an example of their inputs.
    """
    tree = record_to_tree(config)
    return {
        "config": {name: value for name, value in tree.items() if name not in _NOT_IN_THE_GRAPH},
        "runtime": asdict(runtime),
        "operators": operators,
        "inputs": [[list(tensor.shape), str(tensor.dtype)] for tensor in batch],
        "cells": [description(graph) for graph in graphs],
        "sources": sources_digest(PACKAGE),
        "versions": versions(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)},
        "processor": processor(),
    }


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the name of the folder of the graphs with these facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def description(graph: nn.Cell) -> list[Any]:
    """Return what a cell and those inside it are made of: classes, plain attributes, constants, operators, parameters.

    A weight's values are no part of a graph, and not of its description.
    """
    cells: list[Any] = []
    for name, cell in graph.cells_and_names():
        held = {**vars(cell), **cell._primitives}
        public = {key: described for key, value in held.items() if (described := _described(key, value)) is not None}
        cells.append([name, f"{type(cell).__module__}.{type(cell).__qualname__}", public])
    parameters = [
        [name, value.name, list(value.shape), str(value.dtype), value.requires_grad]
        for name, value in graph.parameters_and_names()
    ]
    return [cells, parameters]


def _described(name: str, value: Any) -> Any:
    if name.startswith("_") or isinstance(value, Parameter):
        return None
    if isinstance(value, Tensor):
        return [list(value.shape), str(value.dtype), hashlib.sha256(value.asnumpy().tobytes()).hexdigest()]
    if isinstance(value, Primitive):
        return [value.name, sorted((key, str(item)) for key, item in value.attrs.items() if isinstance(item, _PLAIN))]
    if isinstance(value, tuple | list) and all(isinstance(item, _PLAIN) for item in value):
        return list(value)
    return [value] if isinstance(value, _PLAIN) else None


def parameters_outside(graphs: Sequence[nn.Cell], folder: Path) -> list[str]:
    """Return the parameters of the graphs in MindSpore's files that no cell holds.

    MindSpore gives the graph that it reads the cells' parameters by name; any other would have arbitrary values.
    """
    known = {parameter.name for graph in graphs for parameter in graph.get_parameters()}
    found = set()
    for path in folder.rglob("*.mindir"):
        model = ModelProto()
        model.ParseFromString(path.read_bytes())
        found |= {parameter.name.rpartition(":")[2] for parameter in model.graph.parameter}
    return sorted(found - known)


def sources_digest(package: Path) -> str:
    """Return a digest of the names and contents of all our Python and C++ files."""
    made = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".cc", ".h")):
        content = path.read_bytes()
        made.update(f"{path.relative_to(package)}\0{len(content)}\0".encode() + content)
    return made.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of what compiles; of MindSpore also a digest of its installed files' list."""
    record = metadata.distribution("mindspore").read_text("RECORD") or ""
    return {
        "mindyolo_v4": __version__,
        "mindspore": ms.__version__,
        "mindspore files": hashlib.sha256(record.encode()).hexdigest(),
        "numpy": np.__version__,
        "python": sys.version,
        "system": platform.platform(),
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the model and the flags of the processor, as far as the system says."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return [platform.machine(), *sorted({line for line in lines if line.startswith(("model name", "flags"))})]


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, but the manifest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_entry(folder: Path, scratch: Path) -> dict[str, str]:
    """Copy a kept graph's files to `scratch`; return their digests. Empty: there is none, or a damaged one, removed."""
    if not folder.is_dir():
        return {}
    try:
        held: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in held:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes((folder / name).read_bytes())
        if held and digests(scratch) == held:
            os.utime(folder / MANIFEST)  # the last to be removed
            return held
    except (OSError, ValueError, AttributeError, TypeError):
        pass  # a file is missing, or the manifest says nothing
    logger.warning("compile cache: %s is damaged and will be made again", folder)
    remove_entry(folder)
    _empty(scratch)
    return {}


def write_entry(scratch: Path, folder: Path) -> None:
    """Keep what MindSpore wrote to `scratch` as the folder of its key, unless it is there already."""
    made = digests(scratch)
    if folder.is_dir() or not made:
        return
    try:
        (scratch / MANIFEST).write_text(json.dumps(made), encoding="utf-8")
        scratch.rename(folder)
    except OSError as error:  # another process was first, or the disk is full
        logger.info("compile cache: not kept (%s)", error)


def remove_entry(folder: Path) -> None:
    """Remove a kept graph; another process that is copying it sees it whole or misses it."""
    try:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=folder.parent, ignore_cleanup_errors=True) as name:
            folder.rename(Path(name) / "removed")
    except OSError:  # another process was first
        return


def prune(root: Path, kept: int) -> None:
    """Remove all kept graphs but the `kept` last used ones, and what killed processes have left for a day."""
    used: list[tuple[float, Path]] = []
    for folder in root.iterdir():
        age = _age_s(folder)
        if folder.name.startswith(_SCRATCH_PREFIX):
            if age > _OLD_SCRATCH_S:
                shutil.rmtree(folder, ignore_errors=True)
        else:
            used.append((_age_s(folder / MANIFEST), folder))
    for _, folder in sorted(used)[kept:]:
        remove_entry(folder)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _empty(folder: Path) -> None:
    children: Iterable[Path] = list(folder.iterdir())
    for child in children:
        shutil.rmtree(child) if child.is_dir() else child.unlink()

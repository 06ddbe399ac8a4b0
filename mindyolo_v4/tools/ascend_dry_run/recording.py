"""Compiles graphs in this process and keeps, per graph, what MindSpore said and made of it."""

import ctypes
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mindyolo_v4.tools.ascend_dry_run.operators import (
    AI_CPU_PREFIX,
    GeOperator,
    read_operators,
    sum_by_kind,
)

# With O2 a dry run ends where CANN would compile the graph: MindSpore made no runner for it.
_END_OF_O2 = "Can not found GraphRunner"
# Lines of MindSpore's log that tell of a node which does not run on the Ascend.
_FALL_BACK = re.compile(r".*(?:PyExecute|backoff|fall ?back).*", re.IGNORECASE)


@dataclass(frozen=True)
class Recording:
    """What became of one graph."""

    name: str
    jit_level: str
    error: str | None  # what MindSpore raised, but for the end of every dry run with O2
    graphs: tuple[str, ...]  # complete ones that the graph engine got; none below O2
    operators: tuple[GeOperator, ...]  # of these graphs
    log: str
    seconds: float

    def findings(self) -> list[str]:
        """Return what speaks against the graph, a line each."""
        if self.error is not None:
            return [f"{self.name}: {self.error}"]
        lines = list(dict.fromkeys(_FALL_BACK.findall(self.log)))
        if self.jit_level == "O2":
            if not self.graphs:
                lines.append("the graph engine got no whole graph")
            for kind in sum_by_kind(self.operators):
                if kind.kind.startswith(AI_CPU_PREFIX):
                    lines.append(f"{kind.count} {kind.kind} run on the AI CPU")
        return [f"{self.name}: {line}" for line in lines]


def record(folder: Path, name: str, jit_level: str, compile_graph: Callable[[], None]) -> None:
    """Compile a graph and keep everything about it in files of the folder."""
    started_s = time.monotonic()
    error = None
    with _output_to(folder / f"{name}.log"):
        try:
            compile_graph()
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as problem:
            error = f"{type(problem).__name__}: {problem}"
    if jit_level == "O2" and error is not None and _END_OF_O2 in error:
        error = None
    seconds = time.monotonic() - started_s
    ctypes.CDLL("libgraph.so").ascend_dry_run_write(os.fsencode(folder / f"{name}.operators"))
    text = json.dumps({"jit_level": jit_level, "error": error, "seconds": seconds})
    (folder / f"{name}.json").write_text(text, "utf-8")


def read_recording(folder: Path, name: str) -> Recording | None:
    """Return what `record` has kept; None where the process ended before."""
    file = folder / f"{name}.json"
    if not file.exists():
        return None
    fields = json.loads(file.read_text("utf-8"))
    graphs, operators = read_operators(folder / f"{name}.operators")
    log = (folder / f"{name}.log").read_text("utf-8", "replace")
    return Recording(name, graphs=tuple(graphs), operators=tuple(operators), log=log, **fields)


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send all that is written to stdout and stderr, also by C++, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)

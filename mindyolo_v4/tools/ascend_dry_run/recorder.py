"""Compiles graphs in this process, which has the stand-ins, and keeps what MindSpore made of them.

The process needs the variables of `run.variables`.
"""

import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

# With O2 a dry run ends where CANN would compile the graph: MindSpore made no runner for it.
_END_OF_O2 = "Can not found GraphRunner"


def record(folder: Path, name: str, jit_level: str, compile_graph: Callable[[], None]) -> None:
    """Compile a graph and keep everything about it in files of the folder."""
    started_s = time.monotonic()
    error = None
    try:
        compile_graph()
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    if jit_level == "O2" and error is not None and _END_OF_O2 in error:
        error = None
    seconds = time.monotonic() - started_s

    ctypes.CDLL("libgraph.so").ascend_dry_run_write(os.fsencode(folder / f"{name}.operators"))
    graphs = sorted((folder / "ir").rglob("graph_build*.ir"))
    texts = [graph.read_text("utf-8", "replace") for graph in graphs]
    (folder / f"{name}.ir").write_text("".join(texts), "utf-8")
    for graph in graphs:
        graph.unlink()
    fields = {"jit_level": jit_level, "error": error, "seconds": seconds}
    (folder / f"{name}.json").write_text(json.dumps(fields), "utf-8")

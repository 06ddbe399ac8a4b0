"""What `recorder.record` has kept of a graph, and the problems of the graph."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mindyolo_v4.tools.ascend_dry_run.operators import (
    AI_CPU_PREFIX,
    GeOperator,
    by_kind,
    read_operators,
)

# A node of a compiled graph. It can have several lines: MindSpore's reason for a fall-back does.
_NODE = re.compile(r"^ *%\d+\([^)]*\) = (?:PrimFunc_)?(\w+)\(", re.MULTILINE)
_ON_CPU = 'primitive_target: "CPU"'


@dataclass(frozen=True)
class Recording:
    """What became of one graph."""

    name: str
    jit_level: str
    error: str | None  # what MindSpore raised, but for the end of every dry run with O2
    seconds: float
    graphs: tuple[str, ...]  # complete ones that the graph engine got; none below O2
    operators: tuple[GeOperator, ...]  # of these graphs
    ir: str  # the graphs that MindSpore itself executes, as it writes them; none with O2

    def findings(self) -> list[str]:
        """Return the problems of the graph, one line each."""
        if self.error is not None:
            return [f"{self.name}: {self.error}"]
        lines = []
        if self.jit_level == "O2" and not self.graphs:
            lines.append("the graph engine got no whole graph")
        for kind, group in by_kind(self.operators).items():
            if kind.startswith(AI_CPU_PREFIX):
                lines.append(f"{len(group)} {kind} run on the AI CPU")
        _, *parts = _NODE.split(self.ir)
        nodes = list(zip(parts[::2], parts[1::2], strict=True))  # kind, all that follows it
        if count := sum(kind == "PyExecute" for kind, _ in nodes):
            lines.append(f"{count} nodes run in Python")
        on_cpu = Counter(kind for kind, text in nodes if _ON_CPU in text)
        lines += [f"{count} {kind} run on the CPU" for kind, count in on_cpu.items()]
        return [f"{self.name}: {line}" for line in lines]


def read_recording(folder: Path, name: str) -> Recording | None:
    """Return what `record` has kept; None where the process ended before."""
    file = folder / f"{name}.json"
    if not file.exists():
        return None
    fields = json.loads(file.read_text("utf-8"))
    graphs, operators = read_operators(folder / f"{name}.operators")
    ir = (folder / f"{name}.ir").read_text("utf-8", "replace")
    return Recording(name, graphs=tuple(graphs), operators=tuple(operators), ir=ir, **fields)

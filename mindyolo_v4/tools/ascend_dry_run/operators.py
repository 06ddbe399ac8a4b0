"""The operators that MindSpore hands to CANN's graph engine, as the stand-ins have written them."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Bytes per element of a type, by its number in CANN's interface.
_ELEMENT_BYTES = {
    0: 4,  # float32
    1: 2,  # float16
    2: 1,  # int8
    3: 4,  # int32
    4: 1,  # uint8
    6: 2,  # int16
    7: 2,  # uint16
    8: 4,  # uint32
    9: 8,  # int64
    10: 8,  # uint64
    11: 8,  # float64
    12: 1,  # bool
    27: 2,  # bfloat16
}
# Inputs, constants and names of tensors, which no kernel computes.
_WITHOUT_KERNEL = frozenset(
    ("Data", "RefData", "Variable", "Const", "Constant", "Identity", "IdentityN", "NoOp")
)
AI_CPU_PREFIX = "Cust"  # of the operators that MindSpore itself brings along for the AI CPU


@dataclass(frozen=True)
class TensorInfo:
    """Shape and size of an input or output."""

    shape: tuple[int, ...]
    element_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.element_bytes


@dataclass(frozen=True)
class GeOperator:
    """One operator; inputs whose description is unknown are left out."""

    graph: int  # how many graphs were complete before it was made
    kind: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @property
    def bytes_read(self) -> int:
        return sum(tensor.bytes for tensor in self.inputs)

    @property
    def bytes_written(self) -> int:
        return sum(tensor.bytes for tensor in self.outputs)

    @property
    def has_kernel(self) -> bool:
        return self.kind not in _WITHOUT_KERNEL


def read_operators(file: Path) -> tuple[list[str], list[GeOperator]]:
    """Return the complete graphs and all operators that `ascend_dry_run_write` has written.

    MindSpore makes the operators of a graph, then each of its branches, and completes it.
    """
    graphs: list[str] = []
    operators: list[GeOperator] = []
    for line in file.read_text("utf-8").splitlines():
        kind, name, *tensors = line.split("\t")
        if kind == "graph" and not tensors:
            graphs.append(name)
            continue
        inputs, outputs = map(_tensors, tensors)
        operators.append(GeOperator(len(graphs), kind, inputs, outputs))
    return graphs, operators


def by_kind(operators: Iterable[GeOperator]) -> dict[str, list[GeOperator]]:
    """Return the operators of each kind that has a kernel, the kind of most bytes first."""
    groups: dict[str, list[GeOperator]] = defaultdict(list)
    for operator in operators:
        if operator.has_kernel:
            groups[operator.kind].append(operator)
    bytes_of = {
        kind: sum(operator.bytes_read + operator.bytes_written for operator in group)
        for kind, group in groups.items()
    }
    return {kind: groups[kind] for kind in sorted(groups, key=lambda kind: (-bytes_of[kind], kind))}


def table_of_kinds(operators: Iterable[GeOperator]) -> list[str]:
    """Return a heading, a line per kind of operator that has a kernel, and one for all."""
    groups = by_kind(operators)
    everything = [operator for group in groups.values() for operator in group]
    lines = [f"{'operator':32s} {'count':>6s} {'MB read':>10s} {'MB written':>10s}"]
    for kind, group in (*groups.items(), ("all", everything)):
        read_mb = sum(operator.bytes_read for operator in group) / 1e6
        written_mb = sum(operator.bytes_written for operator in group) / 1e6
        lines.append(f"{kind:32s} {len(group):6d} {read_mb:10.1f} {written_mb:10.1f}")
    return lines


def _tensors(text: str) -> tuple[TensorInfo, ...]:
    tensors = []
    for word in text.split():
        if word == "?":
            continue
        number, _, dims = word.partition(":")
        shape = tuple(int(dim) for dim in dims.split("x") if dim)
        tensors.append(TensorInfo(shape, _ELEMENT_BYTES.get(int(number), 0)))
    return tuple(tensors)

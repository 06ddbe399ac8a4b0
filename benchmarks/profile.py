"""Where a training step's time goes: operators and parts, with stock and with fused operators, and the floor.

The operators' times are MindSpore's profiler's. The floor of the convolutions is their work, three times that of the
forward pass, at the rate of numpy's float32 matrix product on all cores; other parts have none, so all their time is
distance. What passes between operators is the step's own time without the profiler less all operators: below 0 where
operators run side by side. Prints Markdown; --output writes it to a file too.
"""

import datetime
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import run_module
from benchmarks.networks import Networks, parser

KINDS = {"stock": "off", "fused": "on"}  # model.cpu_fused
MATRIX_SIDE = 2048
LEAST_SHARE = 0.002  # of the step; rarer operators are added up
UPDATE = "optimizer and guard"
PARTS = ("convolution", "normalisation and activation", "pooling", "loss", UPDATE, "rest")
BETWEEN = "between operators"

Operator = tuple[str, str, float, float]  # type, full name, calls a step, milliseconds a step


def main() -> int:
    """Profile both kinds at each size and print the report."""
    made = parser("benchmarks.profile", __doc__, img_size=(416,), batch=2, steps=6)
    made.add_argument("--output", type=Path, help="a Markdown file for the same text")
    options = made.parse_args()
    command = "python -m benchmarks.profile " + " ".join(sys.argv[1:])
    text = [
        "# Profile of a training step",
        "",
        f"`{command.strip()}`, {datetime.date.today()}, {processor()}",
    ]
    with tempfile.TemporaryDirectory() as name:
        for size in options.img_size:
            networks = Networks.on_batch(Path(name), size, options.batch, options)
            rates = [matrix_rate()]
            found = {}
            for kind, setting in KINDS.items():
                settings = {**vars(networks), "cpu_fused": setting}
                found[kind] = run_module("profiled_step", **settings)
                rates.append(matrix_rate())
            text += report(size, options.batch, found, statistics.median(rates))
    print("\n".join(text))
    if options.output:
        options.output.write_text("\n".join(text) + "\n", encoding="utf-8")
    return 0


def processor() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    known = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    )
    names = [
        line.partition(":")[2].strip()
        for line in known.splitlines()
        if line.startswith("model name")
    ]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}"


def matrix_rate() -> float:
    """Return the GFLOP/s of numpy's product of two float32 matrices, the median of five."""
    first = np.random.default_rng(0).random((MATRIX_SIDE, MATRIX_SIDE), np.float32)
    second, taken = first.T.copy(), []
    for _ in range(6):
        started = time.perf_counter()
        first @ second
        taken.append(time.perf_counter() - started)
    return 2 * MATRIX_SIDE**3 / statistics.median(taken[1:]) / 1e9


def part_of(kind: str, name: str) -> str:
    """Return the part of the step that an operator belongs to, by its type and full name."""
    if kind.startswith("Conv2D"):
        return "convolution"
    if "update-" in name:
        return UPDATE
    if "loss-" in name:
        return "loss"
    if kind.startswith("MaxPool"):
        return "pooling"
    return "normalisation and activation" if "/bn-" in name or "/act-" in name else "rest"


def report(size: int, batch: int, found: dict[str, dict], rate: float) -> list[str]:
    """Return the lines on one input size."""
    work = next(iter(found.values()))["gflop"]
    floor_ms = work / rate * 1000
    version = next(iter(found.values()))["version"]
    lines = ["", f"## {size} pixels, {batch} images, MindSpore {version}", ""]
    lines += [
        f"Matrix product: {rate:.0f} GFLOP/s; convolutions: {work:.0f} GFLOP a step, at least {floor_ms:.0f} ms."
    ]
    lines += [""]
    parts = {
        kind: part_times(one["operators"], one["step_s"] * 1000) for kind, one in found.items()
    }
    rows = []
    for part in (*PARTS, BETWEEN):
        floor = floor_ms if part == PARTS[0] else 0.0
        times = [parts[kind][part] for kind in found]
        rows.append(
            [
                part,
                *(f"{one:.0f}" for one in times),
                f"{floor:.0f}",
                *(f"{one - floor:.0f}" for one in times),
            ]
        )
    totals = [one["step_s"] * 1000 for one in found.values()]
    rows.append(
        [
            "step",
            *(f"{t:.0f}" for t in totals),
            f"{floor_ms:.0f}",
            *(f"{t - floor_ms:.0f}" for t in totals),
        ]
    )
    lines += table(["part, ms", *found, "floor", *(f"{kind} above it" for kind in found)], rows)
    for kind, one in found.items():
        step_ms = one["step_s"] * 1000
        lines += ["", f"### Operators, {kind}", ""]
        lines += table(
            ["operator", "calls", "ms", "share of the step"],
            operator_rows(one["operators"], step_ms),
        )
    return lines


def part_times(operators: Iterable[Operator], step_ms: float) -> dict[str, float]:
    """Return the milliseconds of each part of a step, and what remains of the step."""
    times = dict.fromkeys(PARTS, 0.0)
    for kind, name, _, milliseconds in operators:
        times[part_of(kind, name)] += milliseconds
    return times | {BETWEEN: step_ms - sum(times.values())}


def operator_rows(operators: Iterable[Operator], step_ms: float) -> list[list[str]]:
    """Return a row for each type of operator, the longest first, and one for all the short ones."""
    calls: dict[str, float] = defaultdict(float)
    times: dict[str, float] = defaultdict(float)
    for kind, name, number, milliseconds in operators:
        label = f"{kind} ({_place(name)})" if kind == "Custom" else kind
        calls[label] += number
        times[label] += milliseconds
    names = sorted(times, key=lambda name: -times[name])
    long = [name for name in names if times[name] >= LEAST_SHARE * step_ms]
    rows = [(name, calls[name], times[name]) for name in long]
    short = [name for name in names if name not in long]
    rows.append(
        (f"{len(short)} others", sum(calls[n] for n in short), sum(times[n] for n in short))
    )
    return [
        [name, f"{number:.0f}", f"{ms:.1f}", f"{ms / step_ms:.1%}"] for name, number, ms in rows
    ]


def _place(name: str) -> str:
    """Return where one of our own operators belongs, by its full name."""
    if part_of("Custom", name) == UPDATE:
        return "update"
    return "backward" if "Grad_Custom" in name else "forward"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, numbers to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


if __name__ == "__main__":
    sys.exit(main())

"""Where a training step's time goes, with stock and with fused operators.

The operators' times are MindSpore's profiler's. The floor of the convolutions is their work, three
times that of the forward pass, at the rate of numpy's float32 matrix product on all cores; other
parts have none, so all their time is distance. What passes between operators is the step's own time
without the profiler less all operators: below 0 where operators run side by side. The
output is Markdown.
"""

import datetime
import os
import platform
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.common.measure import run_module
from benchmarks.common.networks import Networks, make_parser
from mindyolo_v4.models.estimate import matrix_gflops

KINDS = {"stock": "off", "fused": "on"}  # model.cpu_fused
MATRIX_SIDE = 2048
LEAST_SHARE = 0.002  # of the step; rarer operators are added up
UPDATE = "optimizer and guard"
PARTS = ("convolution", "normalisation and activation", "pooling", "loss", UPDATE, "rest")
BETWEEN = "between operators"

Operator = tuple[str, str, float, float]  # type, full name, calls per step, milliseconds per step


def main() -> int:
    """Profile both kinds at each size and print the report."""
    parser = make_parser("benchmarks.profile", __doc__, img_size=(416,), batch=2, steps=6)
    options = parser.parse_args()
    for size, networks in Networks.of_sizes(options):
        rates = [matrix_gflops(MATRIX_SIDE)]
        profiles = {}
        for kind, setting in KINDS.items():
            settings = {**vars(networks), "cpu_fused": setting}
            profiles[kind] = run_module("common.profiled_step", **settings)
            rates.append(matrix_gflops(MATRIX_SIDE))
        print("\n".join(report(size, options.batch, profiles, statistics.median(rates))))
    return 0


def processor() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}"


def part_of(kind: str, name: str) -> str:
    """Return the part of the step that an operator belongs to, by its type and full name."""
    if kind.startswith("Conv2D") or (kind == "Custom" and "DirectConv2d" in name):
        return "convolution"
    if "update-" in name:
        return UPDATE
    if "loss-" in name:
        return "loss"
    if kind.startswith("MaxPool"):
        return "pooling"
    return "normalisation and activation" if "/bn-" in name or "/act-" in name else "rest"


def report(size: int, batch: int, profiles: dict[str, dict], rate: float) -> list[str]:
    """Return the lines on one input size; `rate` is that of the matrix product, GFLOP/s."""
    first = next(iter(profiles.values()))
    floor_ms = first["gflop"] / rate * 1000
    lines = [
        f"{size} pixels, {batch} images, MindSpore {first['version']}, "
        f"{datetime.date.today()}, {processor()}.",
        f"Matrix product: {rate:.0f} GFLOP/s; "
        f"convolutions: {first['gflop']:.0f} GFLOP per step, at least {floor_ms:.0f} ms.",
        "",
    ]
    head = ["part, ms", *profiles, "floor", *(f"{kind} above it" for kind in profiles)]
    steps_ms = {kind: one["step_s"] * 1000 for kind, one in profiles.items()}
    parts = {kind: part_times(one["operators"], steps_ms[kind]) for kind, one in profiles.items()}
    rows = []
    for part in (*PARTS, BETWEEN):
        floor = floor_ms if part == PARTS[0] else 0.0
        rows.append(part_row(part, [parts[kind][part] for kind in profiles], floor))
    rows.append(part_row("step", list(steps_ms.values()), floor_ms))
    lines += table(head, rows)
    for kind, one in profiles.items():
        lines += ["", f"Operators, {kind}:", ""]
        head = ["operator", "calls", "ms", "share of the step"]
        lines += table(head, operator_rows(one["operators"], steps_ms[kind]))
    return [*lines, ""]


def part_row(name: str, times_ms: Sequence[float], floor_ms: float) -> list[str]:
    """Return a part's times, its floor, and how far each time is above the floor."""
    distances = [value - floor_ms for value in times_ms]
    return [name, *(f"{value:.0f}" for value in (*times_ms, floor_ms, *distances))]


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
        label = f"{kind} ({own_operator(name)})" if kind == "Custom" else kind
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


def own_operator(name: str) -> str:
    """Return where one of our own operators is used, by its full name."""
    part = part_of("Custom", name)
    if part == UPDATE:
        return "update"
    direction = "backward" if "Grad_Custom" in name else "forward"
    return f"convolution, {direction}" if part == "convolution" else direction


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, numbers to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


if __name__ == "__main__":
    sys.exit(main())

"""Seconds of the full CSPDarknet53's training step against plain PyTorch.

A step is forward pass, cross-entropy, backward pass and SGD.

Every measurement is a process of its own: two warm-ups after the first call, then the median of
--steps calls. Ours is run as it is installed and with stock operators, PyTorch eagerly in both
memory layouts; the layout with the smaller median is the peer. Compile time and peak memory are
printed beside it.
"""

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path

from benchmarks.common.measure import (
    compare,
    in_turns,
    make_parser,
    option_words,
    run_json,
    run_module,
)
from benchmarks.common.report import pairs_figure
from benchmarks.peers.environments import peer_python

BOUND = 1.1
CLASSES = 1000
FUSED = {"ours": "auto", "stock": "off"}  # model.cpu_fused
LAYOUTS = ("nchw", "channels_last")


def main() -> int:
    """Measure every size; return 1 where the bound is missed."""
    options = make_parser(
        "benchmarks.classifier_step", __doc__, img_size=(224,), batch=8, pairs=3, steps=8
    ).parse_args()
    python = peer_python("torch")
    kept = [measure_size(size, python, options) for size in options.img_size]
    return 0 if all(kept) else 1


def measure_size(size: int, python: Path, options: argparse.Namespace) -> bool:
    """Print the figure of one size and return whether its bound is kept."""
    common = {"img_size": size, "batch": options.batch, "classes": CLASSES, "steps": options.steps}
    torch = [python, "-m", "benchmarks.peers.torch_classifier", *option_words(common)]
    runs: dict[str, list[dict]] = {side: [] for side in (*FUSED, *LAYOUTS)}

    def step_s(side: str) -> float:
        if side in FUSED:
            run = run_module("common.classifier_ours", cpu_fused=FUSED[side], **common)
        else:
            run = run_json([*torch, "--layout", side])
        runs[side].append(run)
        return run["step_s"]

    print(f"{size} px, seconds per step:", flush=True)
    values = in_turns({side: partial(step_s, side) for side in runs}, options.pairs)
    counts = {run["parameters"] for measured in runs.values() for run in measured}
    if len(counts) != 1:
        raise SystemExit(f"not the same network: {sorted(counts)} parameters")
    for side, measured in runs.items():
        first_s, peak_gb = (
            statistics.median(run[name] for run in measured) for name in ("first_s", "peak_gb")
        )
        print(f"{size} px, {side}: first_s {first_s:.3g}, peak_gb {peak_gb:.3g}")
    compile_s = statistics.median(run["compile_s"] for run in runs["ours"])
    print(f"{size} px: our compilation {compile_s:.3g} s; {runs['ours'][0]['cpu_fused']}")
    best = min(LAYOUTS, key=lambda side: statistics.median(values[side]))
    print(f"{size} px: the peer is PyTorch {runs[best][0]['version']}, {best}")
    return pairs_figure(f"classifier_step_{size}", compare(values["ours"], values[best]), BOUND)


if __name__ == "__main__":
    sys.exit(main())

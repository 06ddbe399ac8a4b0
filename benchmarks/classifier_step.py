"""Seconds of the full CSPDarknet53's training step against plain PyTorch.

A step is forward pass, cross-entropy, backward pass and SGD.

Every measurement is a process of its own: two warm-ups after the first call, then the median of
--steps calls. Ours is run as it is installed and with stock operators, PyTorch eagerly in both
memory layouts; the layout with the smaller median is the peer. Compile time and peak memory are
printed beside it.
"""

import statistics
import sys
from collections.abc import Callable

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
    kept = True
    for size in options.img_size:
        common = {
            "img_size": size,
            "batch": options.batch,
            "classes": CLASSES,
            "steps": options.steps,
        }
        words = option_words(common)
        runs: dict[str, list[dict]] = {side: [] for side in (*FUSED, *LAYOUTS)}

        def ours(side: str, common=common, runs=runs) -> float:
            runs[side].append(run_module("common.classifier_ours", cpu_fused=FUSED[side], **common))
            return runs[side][-1]["step_s"]

        def torch(side: str, words=words, runs=runs) -> float:
            module = "benchmarks.peers.torch_classifier"
            runs[side].append(run_json([python, "-m", module, "--layout", side, *words]))
            return runs[side][-1]["step_s"]

        sides: dict[str, Callable[[], float]] = {
            side: lambda side=side: ours(side) for side in FUSED
        }
        sides |= {side: lambda side=side: torch(side) for side in LAYOUTS}
        print(f"{size} px, seconds per step:", flush=True)
        values = in_turns(sides, options.pairs)
        counts = {run["parameters"] for measured in runs.values() for run in measured}
        if len(counts) != 1:
            raise SystemExit(f"not the same network: {sorted(counts)} parameters")
        for side, measured in runs.items():
            shown = [
                f"{name} {statistics.median(run[name] for run in measured):.3g}"
                for name in ("first_s", "peak_gb")
            ]
            print(f"{size} px, {side}: {', '.join(shown)}")
        compile_s = statistics.median(run["compile_s"] for run in runs["ours"])
        print(f"{size} px: our compilation {compile_s:.3g} s; {runs['ours'][0]['cpu_fused']}")
        best = min(LAYOUTS, key=lambda side: statistics.median(values[side]))
        print(f"{size} px: the peer is PyTorch {runs[best][0]['version']}, {best}")
        compared = compare(values["ours"], values[best])
        kept &= pairs_figure(f"classifier_step_{size}", compared, BOUND)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

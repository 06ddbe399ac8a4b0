"""Compilation of the training step's graph: the first call minus the median step, in seconds, median of --pairs runs.

Each run is a process of its own. The peer's 67 s are mindyolo's, measured on this kind of machine (MindSpore 2.8.0, 320
pixels, batch 2). The second figure is that of runs with `compile_cache: on` that find the graph of a run before them;
the cache is a new folder. Their losses must be the same bits.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.networks import Networks, parser
from benchmarks.report import figure

MINDYOLO_S = 67.0
BOUND, CACHED_BOUND = 0.2, 0.1


def main() -> int:
    """Measure every size; return 1 where a bound is missed."""
    made = parser("benchmarks.compile", __doc__, img_size=(320,), batch=2, pairs=3, steps=3)
    made.add_argument(
        "--no_cache", action="store_true", help="leave the runs with the compile cache out"
    )
    options, kept = made.parse_args(), True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in options.img_size:
            networks = Networks.on_batch(folder, size, options.batch, options)
            runs = [networks.ours("train") for _ in range(options.pairs)]
            kept &= figure(
                f"compile_{size}", median_seconds(size, "without a cache", runs), BOUND, MINDYOLO_S
            )
            if options.no_cache:
                continue
            os.environ["MINDYOLO_V4_CACHE"] = str(folder / f"cache{size}")
            first, *cached = [
                networks.ours("train", compile_cache="on") for _ in range(1 + options.pairs)
            ]
            del os.environ["MINDYOLO_V4_CACHE"]
            print(f"{size} px, the run that fills the cache: {first['compile_s']:.4g} s")
            seconds = median_seconds(size, "with a full cache", cached)
            kept &= figure(f"compile_{size}_cached", seconds, CACHED_BOUND, MINDYOLO_S)
            if not all(run["losses"] == runs[0]["losses"] for run in (*runs, first, *cached)):
                print("the losses differ")
                kept = False
    return 0 if kept else 1


def median_seconds(size: int, kind: str, runs: list[dict]) -> float:
    """Print the seconds of compilation of some runs and return their median."""
    taken = [run["compile_s"] for run in runs]
    print(f"{size} px, {kind}: {', '.join(f'{one:.4g}' for one in taken)} s")
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())

"""Peak memory of a training step against mindyolo's 6.1 GB, and memory over a long training.

Peak: the largest resident set of the process that compiles and runs the step, the median of --pairs
runs; mindyolo's was measured on this kind of machine (MindSpore 2.8.0, 320 pixels, batch 2).
Flatness: a training of --flat_steps steps on generated pictures, loop and loader as `train.py` runs
them; the mean resident set of the main process and its loaders over the last 100 steps against that
over the first 100 after a warm-up of 50.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.measure import run_module
from benchmarks.common.networks import Networks, make_parser
from benchmarks.common.report import figure

MINDYOLO_GB = 6.107
BOUNDS = {"stock": ("off", 0.65), "fused": ("on", 0.55)}  # model.cpu_fused, bound
FLAT_BOUND = 1.02
WARM_UP_STEPS = 50
WINDOW_STEPS = 100
WORKERS = 2


def main() -> int:
    """Measure the peaks, then the flatness at the first size; return 1 where a bound is missed."""
    parser = make_parser("benchmarks.memory", __doc__, img_size=(320,), batch=2, pairs=3, steps=3)
    parser.add_argument(
        "--flat_steps",
        type=int,
        default=600,
        help="steps of the long training; 0: leave it out (600)",
    )
    options = parser.parse_args()
    kept = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in options.img_size:
            networks = Networks.on_batch(folder, size, options.batch, options)
            for kind, (cpu_fused, bound) in BOUNDS.items():
                runs = [
                    networks.ours("train", cpu_fused=cpu_fused)["peak_gb"]
                    for _ in range(options.pairs)
                ]
                kept &= figure(f"memory_{size}_{kind}", statistics.median(runs), bound, MINDYOLO_GB)
        if options.flat_steps:
            size = options.img_size[0]
            first, last = long_training(folder, size, options)
            kept &= figure(f"memory_{size}_flat", last, FLAT_BOUND, first)
    return 0 if kept else 1


def long_training(folder: Path, img_size: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return the mean resident GB over the first steps after the warm-up and over the last ones."""
    overrides = {
        "img_size": img_size,
        "batch_size": options.batch,
        "model.width": options.width,
        "model.depth": options.depth,
        "data.num_workers": WORKERS,
        "train.max_steps": options.flat_steps,
        "optimizer.lr": "0.00001",
    }
    result = run_module("common.loop", "scenes", folder=folder, overrides=json.dumps(overrides))
    steps = result["resident_gb"]
    window = max(1, min(WINDOW_STEPS, len(steps) // 3))
    warm_up = min(WARM_UP_STEPS, len(steps) // 3)
    return statistics.mean(steps[warm_up : warm_up + window]), statistics.mean(steps[-window:])


if __name__ == "__main__":
    sys.exit(main())

"""Seconds of compiling the training step: the first call minus the median step.

The median of --pairs runs, each a process of its own. The peer's 67 s are mindyolo's, measured on
this kind of machine (MindSpore 2.8.0, 320 pixels, batch 2). All runs must give the same losses, to
the bit.
"""

import statistics
import sys

from benchmarks.common.networks import Networks, make_parser
from benchmarks.common.report import figure

MINDYOLO_S = 67.0
BOUND = 0.2


def main() -> int:
    """Measure every size; return 1 where a bound is missed or the losses differ."""
    parser = make_parser("benchmarks.compile", __doc__, img_size=(320,), batch=2, pairs=3, steps=3)
    options = parser.parse_args()
    kept = True
    for size, networks in Networks.of_sizes(options):
        runs = [networks.ours("train") for _ in range(options.pairs)]
        seconds = [run["compile_s"] for run in runs]
        print(f"{size} px: {', '.join(f'{value:.4g}' for value in seconds)} s")
        kept &= figure(f"compile_{size}", statistics.median(seconds), BOUND, MINDYOLO_S)
        if any(run["losses"] != runs[0]["losses"] for run in runs):
            print("the losses differ")
            kept = False
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

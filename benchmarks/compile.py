"""Compilation of the training step's graph: the first call minus the median step, in seconds, median of --pairs runs.

Each run is a process of its own. The peer's 67 s are mindyolo's, measured on this kind of machine (MindSpore 2.8.0, 320
pixels, batch 2). The package has no compile cache yet; --cached measures MindSpore's own on an empty folder: the second
of two runs against the same 67 s.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import run_json
from benchmarks.networks import Networks, parser
from benchmarks.report import figure

MINDYOLO_S = 67.0
BOUND, CACHED_BOUND = 0.2, 0.1


def main() -> int:
    """Measure every size; return 1 where a bound is missed."""
    made = parser("benchmarks.compile", __doc__, img_size=(320,), batch=2, pairs=3, steps=3)
    made.add_argument("--cached", action="store_true", help="measure a second run through MindSpore's cache as well")
    options, kept = made.parse_args(), True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in options.img_size:
            networks = Networks.on_batch(folder, size, options.batch, options)
            taken = [networks.ours("train")["compile_s"] for _ in range(options.pairs)]
            print(f"{size} px, seconds: {', '.join(f'{one:.4g}' for one in taken)}")
            kept &= figure(f"compile_{size}", statistics.median(taken), BOUND, MINDYOLO_S)
            if options.cached:
                seconds = second_run(networks, folder / f"cache{size}")
                kept &= figure(f"compile_{size}_cached", seconds, CACHED_BOUND, MINDYOLO_S)
    return 0 if kept else 1


def second_run(networks: Networks, cache: Path) -> float:
    """Return the seconds of compilation of a second run through MindSpore's cache."""
    command = [sys.executable, "-m", "benchmarks.ours", "train", "--batch_file", networks.batch_file]
    command += ["--steps", networks.steps, "--width", networks.width, "--depth", networks.depth]
    variables = {"MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": str(cache)}
    first, second = (run_json(command, variables)["compile_s"] for _ in range(2))
    print(f"with a cache: first run {first:.4g} s, second {second:.4g} s")
    return second


if __name__ == "__main__":
    sys.exit(main())

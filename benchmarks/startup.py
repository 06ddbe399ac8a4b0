"""Seconds of `train.py --help` and of a refused configuration: the median of --pairs processes."""

import statistics
import subprocess
import sys
import time

from benchmarks.common.measure import REPOSITORY, make_parser
from benchmarks.common.report import figure

BOUND_S = 0.5
COMMANDS = {  # figure -> arguments of train.py, exit status
    "startup_help": (("--help",), 0),
    "startup_config_error": (
        ("--config", "configs/yolov4/yolov4.yaml", "--optimizer.learning_rate", "0.1"),
        2,
    ),
}


def main() -> int:
    """Measure both; return 1 where the bound is missed."""
    options = make_parser("benchmarks.startup", __doc__, pairs=7).parse_args()
    kept = True
    for name, (arguments, status) in COMMANDS.items():
        taken = [seconds(arguments, status) for _ in range(options.pairs)]
        kept &= figure(name, statistics.median(taken), BOUND_S)
    return 0 if kept else 1


def seconds(arguments: tuple[str, ...], status: int) -> float:
    """Run train.py once."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "train.py", *arguments], capture_output=True, text=True, cwd=REPOSITORY
    )
    taken = time.perf_counter() - started
    if done.returncode != status:
        raise SystemExit(
            f"train.py {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
        )
    return taken


if __name__ == "__main__":
    sys.exit(main())

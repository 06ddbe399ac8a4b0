"""Share of a training's time spent waiting for the next batch: one epoch of the BCCD recipe.

The loop, the loader and its processes are those of `train.py`; each run is a process of its own,
the median of --pairs counts. The first step (compilation; the loader starts) and the last
(checkpoints) are left out. --steps 0 is a whole epoch.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.measure import add_data_dir, data_folder, make_parser, run_module
from benchmarks.common.report import figure

BOUND = 0.05
TRAINING_IMAGES = 205


def main() -> int:
    """Measure; return 1 where the bound is missed."""
    parser = make_parser(
        "benchmarks.data_wait", __doc__, img_size=(416,), batch=8, pairs=3, steps=0
    )
    add_data_dir(parser, "datasets/bccd")
    options = parser.parse_args()
    data_dir = data_folder(options)
    kept = True
    for size in options.img_size:
        overrides = {"img_size": size, "batch_size": options.batch}
        overrides["train.max_steps"] = options.steps or TRAINING_IMAGES // options.batch
        shares = [wait_share(data_dir, overrides) for _ in range(options.pairs)]
        print(f"{size} px, shares: {', '.join(f'{share:.3f}' for share in shares)}")
        kept &= figure(f"data_wait_{size}", statistics.median(shares), BOUND)
    return 0 if kept else 1


def wait_share(data_dir: Path, overrides: dict[str, object]) -> float:
    """Train once and return the share."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_module(
            "common.loop", "bccd", folder=folder, data_dir=data_dir, overrides=json.dumps(overrides)
        )
    work = result["work_s"][1:]
    wait = result["wait_s"][1 : 1 + len(work)]
    return sum(wait) / (sum(wait) + sum(work))


if __name__ == "__main__":
    sys.exit(main())

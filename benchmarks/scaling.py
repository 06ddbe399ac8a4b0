"""Images per second of two workers on two cores against one worker on one core.

Each worker has the BCCD recipe's batch.

The figure is the efficiency: two workers' rate over twice the one's, the median of --pairs rounds;
its bound is the smallest ratio that passes. Both are `train.py` as a user starts it, the one under
taskset, the two under msrun; the rate is the median of the steps after the first quarter. What the
machine allows is shown beside it: two trainings that know nothing of each other, a core each, at
the same time. Linux with taskset is needed.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.common.launch import free_port, variables
from benchmarks.common.measure import (
    REPOSITORY,
    add_data_dir,
    compare,
    data_folder,
    in_turns,
    make_parser,
    option_words,
)
from benchmarks.common.report import pairs_figure

BOUND = 0.85
WORKERS = 2


def main() -> int:
    """Measure; return 1 where the bound is missed."""
    parser = make_parser("benchmarks.scaling", __doc__, img_size=(416,), batch=8, pairs=3, steps=24)
    add_data_dir(parser, "datasets/bccd")
    options = parser.parse_args()
    kept = True
    data_dir = data_folder(options)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < WORKERS:
        raise SystemExit(f"{len(cores)} core: {WORKERS} are needed")
    for size in options.img_size:
        settings = {"config": "configs/yolov4/bccd.yaml", "data_dir": data_dir, "data.val": "null"}
        settings |= {"img_size": size, "train.per_batch_size": options.batch}
        settings |= {"train.max_steps": options.steps, "device_target": "CPU"}
        words = ["train.py", *option_words(settings)]
        print(f"{size} px, images per second:", flush=True)
        values = in_turns(
            {
                "two": lambda words=words: rate(launch(cores[:WORKERS]), words),
                "one": lambda words=words: WORKERS * rate(alone(cores[0]), words),
                "apart": lambda words=words: rates_apart(cores[:WORKERS], words),
            },
            options.pairs,
        )
        allowed = compare(values["apart"], values["one"])
        print(
            f"{WORKERS} unconnected trainings: {allowed.ours:.4g} images per second, "
            f"efficiency {allowed.ratio:.3f}"
        )
        compared = compare(values["two"], values["one"])
        kept &= pairs_figure(f"scaling_{size}", compared, BOUND, at_least=True)
    return 0 if kept else 1


def pin(cores: list[int]) -> list[str]:
    """Return the words that hold a command to cores."""
    return ["taskset", "-c", ",".join(map(str, cores))]


def alone(core: int) -> list[str]:
    """Return the words that start one process on one core."""
    return [*pin([core]), sys.executable]


def rates_apart(cores: list[int], words: list[object]) -> float:
    """Train once on each core, all at the same time, and return the images per second of all."""
    with ThreadPoolExecutor(len(cores)) as pool:
        return sum(pool.map(lambda core: rate(alone(core), words), cores))


def launch(cores: list[int]) -> list[str]:
    """Return the words that start one worker per core."""
    count = len(cores)
    workers = [f"--worker_num={count}", f"--local_worker_num={count}", "--join=True"]
    msrun = ["msrun", *workers, f"--master_port={free_port()}", "--log_dir=LOGS", "python"]
    return [*pin(cores), *msrun]


def rate(launcher: list[str], words: list[object]) -> float:
    """Train for some steps and return the images per second of all workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [word.replace("LOGS", f"{folder}/logs") for word in launcher]
        command += [*map(str, words), "--save_dir", f"{folder}/run"]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=variables(), capture_output=True, text=True
        )
        steps = folder / "run" / "steps.csv"
        if done.returncode != 0 or not steps.is_file():
            raise SystemExit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}")
        with steps.open(encoding="utf-8", newline="") as file:
            rates = [float(row["images_per_s"]) for row in csv.DictReader(file)]
    return statistics.median(rates[len(rates) // 4 :])


if __name__ == "__main__":
    sys.exit(main())

"""One training by the package's own loop, watched from its loader.

python -m benchmarks.common.loop scenes|bccd --folder FOLDER [--by_line]

Waiting is the time that the loop spends in asking the loader for the next batch, work all other
time between two requests; both are measured around `TrainStream.batches`, which is replaced here,
and nowhere else. `memory` and `data_wait` start it and read the JSON object that it prints.

With --by_line, each micro-batch waits for a line on stdin, and the seconds of work on it are a line
on stdout: `ablation` has several trainings step in turn.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.common.made_batch import RECIPE
from benchmarks.common.measure import make_parser
from mindyolo_v4 import detect
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.data.loader.stream import TrainStream
from mindyolo_v4.engine.training import train
from mindyolo_v4.runtime.device import start
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes

SCENES = SceneSet(train=400, val=1, img_size=416, seed=0)
BCCD_RECIPE = RECIPE.with_name("bccd.yaml")
FLAT = {"img_size": "data.img_size", "batch_size": "train.per_batch_size"}


class Watch:
    """Times and memory, one value per step."""

    def __init__(self) -> None:
        self.wait_s: list[float] = []
        self.work_s: list[float] = []
        self.resident_gb: list[float] = []

    def around(self, batches: Iterator) -> Iterator:
        """Pass batches on and note what each costs, except the work on the last, which saves."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            got = time.perf_counter()
            if batch is None:
                return
            self.wait_s.append(got - asked)
            yield batch
            self.work_s.append(time.perf_counter() - got)
            self.resident_gb.append(resident_gb())


def by_line(batches: Iterator) -> Iterator:
    """Pass a batch on for each line of stdin, and print the seconds of work on it."""
    for batch in batches:
        if not sys.stdin.readline():
            raise SystemExit("stdin has ended")
        got = time.perf_counter()
        try:
            yield batch
        finally:
            print(time.perf_counter() - got, flush=True)


def resident_gb() -> float:
    """Return the resident GB of this process and its children; shared pages count for each."""
    this = psutil.Process()
    total = 0
    for process in (this, *this.children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 1e9


def main() -> int:
    """Train as the command line says and print what was seen."""
    parser = make_parser("benchmarks.common.loop", __doc__)
    parser.add_argument("data", choices=("scenes", "bccd"))
    parser.add_argument(
        "--folder", type=Path, required=True, help="for generated pictures and the run's files"
    )
    parser.add_argument("--data_dir", help="where BCCD lies")
    parser.add_argument(
        "--overrides", default="{}", help="JSON object: dotted or flat key -> value"
    )
    parser.add_argument("--by_line", action="store_true", help="a micro-batch per line of stdin")
    options = parser.parse_args()
    overrides = {"save_dir": options.folder / "run", "device_target": "CPU", "data.val": "null"}
    recipe = BCCD_RECIPE
    if options.data == "bccd":
        overrides |= {"data.root": options.data_dir}
    else:
        recipe = RECIPE
        scenes = options.folder / "scenes"
        write_scenes(scenes, SCENES)
        overrides |= {"data.root": scenes, "data.format": "yolo", "data.names": "classes.txt"}
        overrides |= {"data.train": "images/train"}
    given = json.loads(options.overrides)
    overrides |= {FLAT.get(name, name): value for name, value in given.items()}
    watch = Watch()
    original = TrainStream.batches
    handed_on = by_line if options.by_line else watch.around
    TrainStream.batches = lambda stream, start, stop: handed_on(original(stream, start, stop))
    tree = read_tree(recipe, [(name, str(value)) for name, value in overrides.items()])
    config = build_config(tree)
    runtime = start(config)
    with runtime.heartbeat:
        train(detect.TASK, config, tree, runtime, "benchmark")
    if not options.by_line:
        print(json.dumps(vars(watch)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

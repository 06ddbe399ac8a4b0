"""The way to the first batch of a training, and the memory of its loader processes.

python -m benchmarks.common.first_batch --data_dir DIR --img_size S --batch B --steps N

Reads and streams as `train.py` does, without a network; `coco_scale` starts it and reads the JSON
object that it prints. The seconds count from the start of the process. Memory of a loader process
is its unique set (USS: pages that it shares with no other) and its share of all (PSS: a page that n
processes have counts 1/n), MB, after each batch; the largest process counts.
"""

import json
import sys
import time

import psutil

from benchmarks.common.made_batch import recipe
from benchmarks.common.made_coco import ANNOTATIONS, CLASSES
from benchmarks.common.measure import make_parser
from mindyolo_v4 import detect
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.runtime.device import peak_memory_gb

WORKERS = 2


def main() -> int:
    """Measure as the command line says and print the result."""
    parser = make_parser("benchmarks.common.first_batch", __doc__, img_size=608, batch=8, steps=60)
    parser.add_argument("--data_dir", required=True)
    options = parser.parse_args()
    overrides = {
        "data.root": options.data_dir,
        "data.train": ANNOTATIONS,
        "data.val": "null",
        "data.num_classes": CLASSES,
        "data.num_workers": WORKERS,
        "train.per_batch_size": options.batch,
    }
    config = recipe(options.img_size, *((name, str(value)) for name, value in overrides.items()))
    process = psutil.Process()
    started = process.create_time()
    imported_s = time.time() - started
    dataset = read_split(config.data, "train")
    read_s = time.time() - started
    stream = detect.train_stream(config, dataset, Ranks())
    batches = stream.batches(0, stream.steps_per_epoch * config.train.epochs)
    next(batches)
    first_s = time.time() - started
    memory: dict[str, list[float]] = {"uss_mb": [], "pss_mb": []}
    for _ in range(options.steps):
        next(batches)
        sets = [child.memory_full_info() for child in process.children(recursive=True)]
        memory["uss_mb"].append(max(one.uss for one in sets) / 1e6)
        memory["pss_mb"].append(max(one.pss for one in sets) / 1e6)
    batches.close()
    seconds = {"imported_s": imported_s, "read_s": read_s, "first_s": first_s}
    print(json.dumps({**seconds, **memory, "peak_gb": peak_memory_gb()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

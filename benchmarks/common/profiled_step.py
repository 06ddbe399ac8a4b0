"""One training step under MindSpore's profiler, in this process.

python -m benchmarks.common.profiled_step --batch_file FILE

`profile` starts it and reads the JSON object that it prints: the operators, and the seconds of a
step without profiler.
"""

import csv
import json
import os
import sys
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore.profiler import ProfilerActivity, profile

from benchmarks.common.clock import time_calls
from benchmarks.common.made_batch import CLASSES, recipe
from benchmarks.common.measure import make_parser
from benchmarks.common.ours import tables, training_step
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import giga_flops
from mindyolo_v4.runtime.device import start

PROFILED_STEPS = 3


def main() -> int:
    """Profile as the command line says and print the result."""
    parser = make_parser("benchmarks.common.profiled_step", __doc__, steps=6)
    parser.add_argument("--batch_file", type=Path, required=True)
    for name, default in (("cpu_fused", "auto"), ("width", "1.0"), ("depth", "1.0")):
        parser.add_argument(f"--{name}", default=default)
    options = parser.parse_args()
    batch = dict(np.load(options.batch_file))
    chosen = {f"model.{name}": getattr(options, name) for name in ("cpu_fused", "width", "depth")}
    config = recipe(batch["images"].shape[2], *chosen.items())
    start(config)
    step = training_step(config)
    tensors = (Tensor(batch["images"]), *tables(batch))

    def call() -> None:
        step(1e-5, [tensors])[1].asnumpy()

    timed = time_calls(call, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the profiler writes below the current folder
        profiler = profile(activities=[ProfilerActivity.CPU])
        profiler.start()
        for _ in range(PROFILED_STEPS):
            call()
        profiler.stop()
        (file,) = Path(folder).rglob("cpu_op_detail_info_*.csv")
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
    operators = [
        [row["op_type"], row["full_op_name"], int(row["op_occurrences"]) / PROFILED_STEPS,
         float(row["op_total_time(ms)"]) / PROFILED_STEPS]
        for row in rows
    ]  # fmt: skip
    images = len(batch["images"])
    network = build_network(config.model, CLASSES)
    result = {
        "operators": operators,
        "step_s": timed["step_s"],
        "gflop": 3 * images * giga_flops(network, config.data.img_size),
        "version": ms.__version__,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

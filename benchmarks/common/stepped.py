"""The step of `benchmarks.train_step` for each line on stdin: its seconds and loss on stdout.

python -m benchmarks.common.stepped BATCH_FILE [--cpu_fused on] [--width 0.25 --depth 0.33]

It runs by the package and by `benchmarks.common.ours` of the folder that PYTHONPATH names, so that
`benchmarks.step_change` can time an older checkout.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from mindspore import Tensor

from benchmarks.common import ours
from benchmarks.common.made_batch import recipe
from mindyolo_v4.runtime.device import start


def main() -> int:
    """Make a step for each line until stdin ends."""
    parser = argparse.ArgumentParser("python -m benchmarks.common.stepped")
    parser.add_argument("batch_file", type=Path)
    for name, default in (("cpu_fused", "auto"), ("width", "1.0"), ("depth", "1.0")):
        parser.add_argument(f"--{name}", default=default)
    options = parser.parse_args()
    batch = dict(np.load(options.batch_file))
    threshold = ("loss.ignore_threshold", str(batch["ignore_threshold"]))
    chosen = [(f"model.{name}", getattr(options, name)) for name in ("cpu_fused", "width", "depth")]
    config = recipe(batch["images"].shape[2], threshold, *chosen)
    start(config)
    step = ours.training_step(config)
    tensors = (Tensor(batch["images"]), *ours.tables(batch))
    step.compile(1e-5, tensors)
    for _ in sys.stdin:
        started = time.perf_counter()
        loss = float(step(1e-5, [tensors])[0].asnumpy()[0])
        print(time.perf_counter() - started, loss, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Memory and time of training steps of several networks, sizes and batches, and the fit to them.

Each network runs in a process of its own, on a CPU. The command prints a row per measurement, then
the coefficients that `mindyolo_v4/models/estimate.py` holds, fitted by least squares of relative
errors, and the errors of the fit. Time is that of the processor, which other programs disturb less.
With --points, only these measurements are done; with --file, rows are added to those of a former
run.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.made_batch import CLASSES
from benchmarks.common.measure import make_parser
from benchmarks.common.networks import Networks
from mindyolo_v4.config.model import ModelConfig

POINTS = (  # architecture, width, pixels, images
    ("yolov4", 1.0, 320, 2),
    ("yolov4", 1.0, 416, 4),
    ("yolov4", 1.0, 608, 1),
    ("yolov4", 0.25, 256, 16),
    ("yolov4-silu", 1.0, 320, 2),
    ("yolov4-csp", 1.0, 320, 2),
    ("yolov4x-mish", 1.0, 320, 1),
    ("yolov4-tiny", 1.0, 416, 2),
    ("yolov4-tiny", 1.0, 416, 16),
    ("yolov4-tiny", 1.0, 608, 8),
    ("yolov4-tiny-3l", 1.0, 416, 8),
)


@dataclass(frozen=True)
class Row:
    """One measurement, and the numbers that an estimate of it is made from."""

    name: str
    images: int
    mega_parameters: float
    giga_flops: float  # of one image, forward
    mega_activations: float  # of one image
    memory_gb: float
    step_s: float
    step_core_s: float  # time of the processor for a step
    core_gflops: float  # rate of a float32 matrix product per second of the processor


def main() -> int:
    """Measure, fit and print."""
    parser = make_parser("benchmarks.training_cost", __doc__)
    numbers = ", ".join(f"{k}: {' '.join(map(str, point))}" for k, point in enumerate(POINTS))
    parser.add_argument("--points", type=int, nargs="*", default=range(len(POINTS)), help=numbers)
    parser.add_argument("--steps", type=int, default=3, help="timed steps (3)")
    parser.add_argument("--file", type=Path, help="JSON file of the rows, read and written")
    options = parser.parse_args()
    rows = []
    if options.file is not None and options.file.is_file():
        rows = [Row(**row) for row in json.loads(options.file.read_text("utf-8"))]
    for number in options.points:
        rows.append(measure(*POINTS[number], options.steps))
        print(rows[-1], flush=True)
        if options.file is not None:
            options.file.write_text(json.dumps([asdict(row) for row in rows]), "utf-8")
    report(rows)
    return 0


def measure(architecture: str, width: float, img_size: int, images: int, steps: int) -> Row:
    """Run some training steps of a network."""
    from mindyolo_v4.models.build import build_network
    from mindyolo_v4.models.describe import giga_flops, mega_activations, parameter_count
    from mindyolo_v4.models.estimate import matrix_gflops

    model = ModelConfig(architecture, width)
    network = build_network(model, CLASSES)
    small = argparse.Namespace(steps=steps, width=width, depth=1.0)
    rate = matrix_gflops(repeats=9, clock=time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        named = ("model.architecture", architecture)
        networks = Networks.on_batch(Path(folder), img_size, images, small, named)
        result = networks.ours("train", architecture=architecture)
    return Row(
        f"{architecture} {width:g} {img_size} px",
        images,
        parameter_count(network) / 1e6,
        giga_flops(network, img_size),
        mega_activations(network, img_size),
        result["peak_gb"],
        result["step_s"],
        result["step_core_s"],
        max(rate, matrix_gflops(repeats=9, clock=time.process_time)),
    )


def report(rows: list[Row]) -> None:
    """Print the fits of memory and time, and their largest errors."""
    one = np.ones(len(rows))
    parameters = np.array([row.mega_parameters for row in rows])
    activations = np.array([row.images * row.mega_activations for row in rows])
    flops = np.array([row.images * row.giga_flops for row in rows])
    rate = np.array([row.core_gflops for row in rows])
    memory = np.array([row.memory_gb for row in rows])
    seconds = np.array([row.step_core_s for row in rows])
    fit("memory, GB: 1, 10^6 parameters, 10^6 activations", memory, one, parameters, activations)
    fit("core seconds x rate: GFLOPs, 10^9 activations", seconds * rate, flops, activations / 1000)


def fit(title: str, measured: NDArray[np.float64], *columns: NDArray[np.float64]) -> None:
    """Fit a sum of columns by least squares of relative errors; print coefficients and errors."""
    table = np.stack(columns, axis=1)
    factors, *_ = np.linalg.lstsq(table / measured[:, None], np.ones(len(measured)), rcond=None)
    errors = table @ factors / measured - 1
    print(f"{title}: {factors.tolist()}; errors {np.round(100 * errors, 1).tolist()} %")


if __name__ == "__main__":
    sys.exit(main())

"""Every network in every format and back-end against MindSpore's network, on a drawn picture.

python -m benchmarks.export_equality [--img_size 608 416] [--networks yolov4 ...] [--width 1.0]

Weights are random. export.py writes each format and prints how far it is from the network; then
each back-end runs the checkpoint. Exit status 1 where a raw map differs by more than 1e-4 of its
largest magnitude, a box by more than 0.05 px, a score by more than 1e-4, or an export fails.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.made_checkpoint import write_checkpoint
from benchmarks.common.measure import REPOSITORY, run_module
from benchmarks.common.networks import make_parser
from mindyolo_v4.config.model import ModelConfig

BOUNDS = {"maps": 1e-4, "boxes_px": 0.05, "scores": 1e-4}
FORMATS = ("onnx", "openvino", "mindir", "darknet", "ckpt")
NETWORKS = ("yolov4", "yolov4-silu", "yolov4-tiny", "cspdarknet53")
_CLASSES = 80


def main() -> int:
    """Compare all of them; return 1 where one differs too much."""
    parser = make_parser("benchmarks.export_equality", __doc__, img_size=(608, 416))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    options = parser.parse_args()
    is_good = True
    for name in options.networks:
        model = ModelConfig(name, width=options.width, depth=options.depth)
        for size in options.img_size:
            with tempfile.TemporaryDirectory() as folder:
                weight = Path(folder) / f"{name}.ckpt"
                write_checkpoint(weight, model, _CLASSES, size)
                for form in options.formats:
                    print(f"== {name}, {size} px, {form}", flush=True)
                    is_good &= export(weight, form)
                print(f"== {name}, {size} px, back-ends", flush=True)
                is_good &= compare_backends(weight, size)
    return 0 if is_good else 1


def export(weight: Path, form: str) -> bool:
    """Run export.py, which prints the differences; return whether it kept the file."""
    command = [sys.executable, "export.py", "--weight", weight, "--format", form]
    return subprocess.run(command, cwd=REPOSITORY).returncode == 0


def compare_backends(weight: Path, size: int) -> bool:
    """Print a line for each back-end; return whether all are within the bounds."""
    is_good = True
    found = run_module("common.backend_differences", weight=weight, img_size=size)
    del found["process_s"]
    for name, values in found.items():
        is_good &= all(values[key] <= BOUNDS[key] for key in values)
        shown = ", ".join(f"{key} {value:.1e}" for key, value in values.items())
        print(f"{name}: largest differences: {shown}", flush=True)
    return is_good


if __name__ == "__main__":
    sys.exit(main())

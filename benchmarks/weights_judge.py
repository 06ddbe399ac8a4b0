"""OpenCV's DNN as judge of the converted weights, at full size: python -m benchmarks.weights_judge

Random weights go through our exporter into .weights and .cfg; OpenCV runs these, our network runs
the checkpoint.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.made_checkpoint import write_checkpoint
from benchmarks.common.report import figure
from mindyolo_v4.config.model import ModelConfig

CASES = (  # architecture, classes, input sizes
    ("yolov4", 80, (608, 416)),
    ("yolov4-csp", 80, (512,)),
    ("yolov4x-mish", 80, (640,)),
    ("yolov4-tiny", 80, (416,)),
    ("yolov4-tiny-3l", 80, (608,)),
    ("cspdarknet53", 1000, (256,)),
)
BOUND = 1e-4  # of the largest magnitude of an output


def main() -> int:
    """Judge every case; return 1 where a difference is above the bound."""
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        for architecture, classes, sizes in CASES:
            checkpoint = Path(folder) / f"{architecture}.ckpt"
            weights = checkpoint.with_suffix(".weights")
            write_checkpoint(checkpoint, ModelConfig(architecture), classes, sizes[0])
            run("convert.darknet", checkpoint, weights)
            for size in sizes:
                darknet = ("--darknet", weights.with_suffix(".cfg"), weights)
                printed = run("convert.verify", checkpoint, *darknet, "--img_size", size)
                worst = float(printed.splitlines()[-1].split()[1].rstrip(","))
                kept &= figure(f"weights_judge_{architecture}_{size}", worst, BOUND)
            weights.unlink()
            checkpoint.unlink()
    return 0 if kept else 1


def run(module: str, *arguments: object) -> str:
    """Run a command of `convert`, return what it printed; end the benchmark at a status above 1."""
    command = [sys.executable, "-m", module, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    print(done.stdout, end="")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

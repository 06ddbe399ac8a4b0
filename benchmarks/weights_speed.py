"""Time and memory of converting 64 million parameters to and from each format."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common.report import figure

MAX_SECONDS = 15.0
MAX_GB = 1.5
MADE = "benchmarks.common.made_checkpoint"


def main() -> int:
    """Convert to and from each format; return 1 where a bound is missed."""
    kept = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = folder / "ours.ckpt"
        # In a process of its own: MindSpore stays out of this one, whose children are measured.
        subprocess.run([sys.executable, "-m", MADE, str(ours), "yolov4", "80", "608"], check=True)
        for module, foreign in (
            ("darknet", "full.weights"),
            ("pytorch", "full.safetensors"),
            ("mindyolo", "full.ckpt"),
            ("safetensors", "own.safetensors"),
        ):
            back = folder / "back.ckpt"
            for direction, source, target in (
                ("to", ours, folder / foreign),
                ("from", folder / foreign, back),
            ):
                seconds, peak_gb = timed(module, source, target)
                kept &= figure(f"weights_{direction}_{module}_seconds", seconds, MAX_SECONDS)
                kept &= figure(f"weights_{direction}_{module}_gb", peak_gb, MAX_GB)
            (folder / foreign).unlink()
    return 0 if kept else 1


def timed(module: str, source: Path, target: Path) -> tuple[float, float]:
    """Run one conversion; return the seconds and the peak GB of its whole process."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"convert.{module}", str(source), str(target)],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"convert.{module} {source} {target} failed")
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    sys.exit(main())

"""Seconds of the full YOLOv4's training step against plain PyTorch.

A step is network, loss, backward pass and SGD.

Every measurement is a process of its own: two warm-ups after the first call, then the median of
--steps calls. In each round run ours with stock operators, ours with the fused ones, and PyTorch
eager in both memory layouts; the layout with the smaller median is the peer. torch.compile is
measured once and reported beside it. That PyTorch computes the same maps and the same loss is
checked first.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.measure import compare, in_turns
from benchmarks.common.networks import LAYOUTS, Networks, make_parser
from benchmarks.common.report import pairs_figure
from benchmarks.peers.environments import peer_python

BOUNDS = {"stock": 1.2, "fused": 1.0}
FUSED = {"stock": "off", "fused": "on"}  # model.cpu_fused


def main() -> int:
    """Measure every size; return 1 where a bound is missed."""
    parser = make_parser(
        "benchmarks.train_step", __doc__, img_size=(416, 320), batch=2, pairs=3, steps=6
    )
    parser.add_argument("--no_compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    python = peer_python("torch")
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        Networks.check_torch(python, Path(folder), options)
    for size, networks in Networks.of_sizes(options):
        kept &= measure_size(networks, python, size, options.pairs)
        if not options.no_compile:
            compiled = networks.torch(python, "train", "--layout", "channels_last", "--compile")
            times = f"{compiled['step_s']:.4g} s, first step {compiled['first_s']:.3g} s"
            print(f"{size} px: torch.compile {times}")
    return 0 if kept else 1


def measure_size(networks: Networks, python: Path, size: int, pairs: int) -> bool:
    """Print the figures of one size and return whether both bounds are kept."""
    runs = {
        kind: lambda kind=kind: networks.ours("train", cpu_fused=FUSED[kind])["step_s"]
        for kind in BOUNDS
    }
    runs |= {
        layout: lambda layout=layout: networks.torch(python, "train", "--layout", layout)["step_s"]
        for layout in LAYOUTS
    }
    print(f"{size} px, seconds per step:", flush=True)
    values = in_turns(runs, pairs)
    best = min(LAYOUTS, key=lambda layout: statistics.median(values[layout]))
    print(f"{size} px: the peer is PyTorch, {best}")
    kept = True
    for kind, bound in BOUNDS.items():
        compared = compare(values[kind], values[best])
        kept &= pairs_figure(f"train_step_{size}_{kind}", compared, bound)
    return kept


if __name__ == "__main__":
    sys.exit(main())

"""The network in inference against PyTorch (channels_last, batch normalisation folded), in seconds.

Network alone, eager in PyTorch and compiled as a graph in MindSpore; every measurement is a process
of its own, the median of --steps calls after three. torch.compile is measured once and reported
beside it.
"""

import sys

from benchmarks.common.measure import compare, in_turns
from benchmarks.common.networks import Networks, make_parser
from benchmarks.common.report import pairs_figure
from benchmarks.peers.environments import peer_python

BOUND = 1.05


def main() -> int:
    """Measure every size; return 1 where the bound is missed."""
    parser = make_parser(
        "benchmarks.inference", __doc__, img_size=(608, 416), batch=1, pairs=5, steps=15
    )
    parser.add_argument("--no_compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    python = peer_python("torch")
    kept = True
    flags = ("infer", "--layout", "channels_last")
    for size, networks in Networks.of_sizes(options):
        print(f"{size} px, seconds per input:", flush=True)
        values = in_turns(
            {
                "ours": lambda networks=networks: networks.ours("infer")["step_s"],
                "torch": lambda networks=networks: networks.torch(python, *flags)["step_s"],
            },
            options.pairs,
        )
        compared = compare(values["ours"], values["torch"])
        kept &= pairs_figure(f"inference_{size}", compared, BOUND)
        if not options.no_compile:
            compiled = networks.torch(python, *flags, "--compile")
            print(f"{size} px: torch.compile {compiled['step_s']:.4g} s")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

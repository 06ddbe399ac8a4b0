"""What the loss costs, as a share of the training step.

The loss and its gradient to the raw maps, compiled alone, plus the CPU time in which the loader's
processes assign the targets of a batch; over the whole step. Each in processes of its own, the
median of --pairs counts.
"""

import sys

from benchmarks.common.measure import compare, in_turns
from benchmarks.common.networks import Networks, make_parser
from benchmarks.common.report import pairs_figure

BOUND = 0.05


def main() -> int:
    """Measure every size; return 1 where the bound is missed."""
    parser = make_parser(
        "benchmarks.loss_share", __doc__, img_size=(416, 320), batch=2, pairs=3, steps=8
    )
    options = parser.parse_args()
    kept = True
    for size, networks in Networks.of_sizes(options):
        print(f"{size} px, seconds:", flush=True)
        values = in_turns(
            {
                "loss": lambda networks=networks: loss_seconds(networks, options.batch),
                "step": lambda networks=networks: networks.ours("train")["step_s"],
            },
            options.pairs,
        )
        compared = compare(values["loss"], values["step"])
        kept &= pairs_figure(f"loss_share_{size}", compared, BOUND)
    return 0 if kept else 1


def loss_seconds(networks: Networks, batch: int) -> float:
    """Return the seconds of the loss in the graph and of the assignment of a batch."""
    result = networks.ours("loss")
    assign_ms = result["assign_cpu_s"] * 1000
    print(f"  graph {result['step_s']:.4g} s, assignment {assign_ms:.3g} ms per image", flush=True)
    return result["step_s"] + batch * result["assign_cpu_s"]


if __name__ == "__main__":
    sys.exit(main())

"""Operators of the training step that CANN's graph engine gets on Ascend, beside a budget.

python -m benchmarks.ascend_graph [--config FILE] [--key value ...]

MindSpore compiles the step of configs/yolov4/yolov4.yaml for Ascend at jit level O2 (608 pixels,
16 images, mixed precision) against stand-ins for CANN's libraries; no Ascend is needed. The list
is MindSpore's own, of a step whose gradients are finite; constants, inputs and identities are not
in it. CANN fuses some of the operators afterwards. Exit status 1 where a figure is above its
budget.

operators: all; on_the_ai_cpu: those that run slowly; single_number_gathers: numbers that large
gathers take one by one; ignore_rule: its operators, told by their shapes; moved_mb: what operators
write that only cut, join, repeat or copy.
"""

import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.measure import REPOSITORY
from benchmarks.common.report import figure
from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.ascend_dry_run.operators import AI_CPU_PREFIX, GeOperator, table_of_kinds
from mindyolo_v4.tools.ascend_dry_run.run import Job, dry_run

RECIPE = REPOSITORY / "configs" / "yolov4" / "yolov4.yaml"
# The most that may be.
BUDGET = {
    "operators": 4400,
    "on_the_ai_cpu": 0,
    "single_number_gathers": 0,
    "ignore_rule": 59,
    "moved_mb": 2200,
}
MOVES = (  # kinds of operators that compute nothing
    *("Slice", "CustSliceGrad", "StridedSlice", "StridedSliceGrad", "Split", "Concat", "Pack"),
    *("Transpose", "Tile", "BroadcastTo", "Assign"),
)
NOT_FINITE = 1  # the second branch to be complete: it takes the statistics back after an overflow
MANY = 100_000  # a gather of fewer numbers takes microseconds


@dataclass(frozen=True)
class Sizes:
    """Lengths of axes that tell the ignore rule's arrays from others."""

    images: int
    targets: int  # per image
    predictions: int  # per image


def main(argv: Sequence[str]) -> int:
    """Compile the step and print the operators; return 1 where a figure is above its budget."""
    parser = build_parser("python -m benchmarks.ascend_graph", __doc__)
    words = parse(parser, argv)
    recipe = words.config or str(RECIPE)
    config = build_config(read_tree(Path(recipe), (("data.train", "none"), *words.overrides)))
    side = config.data.img_size
    predictions = sum(
        len(level.anchor_ids) * (side // level.stride) ** 2
        for level in config.model.anchor_set.levels
    )
    sizes = Sizes(config.train.per_batch_size, config.data.max_truths, predictions)

    one_size = (("train.random_sizes", "null"), ("train.growing_sizes", "null"))  # data.img_size
    overrides = (*words.overrides, *one_size)
    job = Job("training", str(Path(recipe).absolute()), overrides, ("step",))
    with tempfile.TemporaryDirectory() as folder:
        (step,) = dry_run([job], Path(folder), "O2").values()
    operators = [one for one in step.operators if one.has_kernel and one.graph != NOT_FINITE]
    print("\n".join(table_of_kinds(operators)))
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"compiled in {step.seconds:.0f} s, peak memory {peak_gb:.2f} GB")
    for finding in step.findings():
        print(finding)
    figures = measure(operators, sizes)
    kept = [figure(name, value, BUDGET[name]) for name, value in figures.items()]
    return 0 if all(kept) and step.error is None and step.graphs else 1


def measure(operators: Sequence[GeOperator], sizes: Sizes) -> dict[str, float]:
    """Return the figures of the budget."""
    on_ai_cpu = [one for one in operators if one.kind.startswith(AI_CPU_PREFIX)]
    return {
        "operators": len(operators),
        "on_the_ai_cpu": len(on_ai_cpu),
        "single_number_gathers": sum(map(gathered_singles, operators)),
        "ignore_rule": sum(is_of_ignore_rule(one, sizes) for one in operators),
        "moved_mb": sum(one.bytes_written for one in operators if one.kind in MOVES) / 1e6,
    }


def gathered_singles(operator: GeOperator) -> int:
    """Return how many numbers a gather takes one by one, where they are many."""
    if not operator.kind.startswith("Gather") or len(operator.inputs) < 2:
        return 0
    indices = operator.inputs[1].elements
    is_single = indices == operator.outputs[0].elements
    return indices if is_single and indices > MANY else 0


def is_of_ignore_rule(operator: GeOperator, sizes: Sizes) -> bool:
    """Tell whether an operator works on targets or on pairs of predictions and targets."""
    return any(
        _is_of_targets(tensor.shape, sizes) for tensor in (*operator.inputs, *operator.outputs)
    )


def _is_of_targets(shape: tuple[int, ...], sizes: Sizes) -> bool:
    """Shapes of t targets: B x 4 x t, planes B x t x 1, pairs B x t x N; t is T or a part of it."""
    if len(shape) != 3 or shape[0] != sizes.images:
        return False
    _, middle, last = shape
    if middle == 4:
        return last <= sizes.targets
    return middle > 1 and last in (1, sizes.predictions)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""Shows what MindSpore's Ascend back end makes of a configuration, on a machine without Ascend.

python -m mindyolo_v4.tools.ascend_dry_run --config FILE [--key value ...] [--devices N]
                                           [--graphs step,evaluation,...]
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mindyolo_v4 import environment
from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.recipe import build_config, find_recipe, print_config, read_tree
from mindyolo_v4.cpu_ops.build import BuildError
from mindyolo_v4.errors import UserError, require_range
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.ascend_dry_run.operators import table_of_kinds
from mindyolo_v4.tools.ascend_dry_run.recording import Recording
from mindyolo_v4.tools.ascend_dry_run.run import (
    GRAPHS,
    DryRunError,
    Job,
    dry_run,
    graphs_of,
    names_of,
)

_NOT_IN_GRAPHS = (
    *("device_target", "is_parallel", "weight", "save_dir", "data_dir", "data_path", "epochs"),
    *("seed", "conf_thres", "iou_thres", "max_det", "split", "tta", "tile", "overlap"),
    *("data", "single_cls"),
)


def main(argv: Sequence[str]) -> int:
    """Compile the graphs and print what was found; return 1 where one has problems."""
    environment.prepare()
    description = "Show what MindSpore's Ascend back end makes of a configuration, without Ascend."
    parser = build_parser(command_for("ascend-dry-run"), description, hidden=_NOT_IN_GRAPHS)
    parser.add_argument(
        "--devices", type=int, default=1, help="of the training (default: %(default)s)"
    )
    parser.add_argument(
        "--graphs",
        help=f"some of {','.join(GRAPHS)} (default: all that training and evaluation compile)",
    )
    words = parse(parser, argv)
    if words.config is None:
        raise UserError("--config", "missing")
    config = build_config(read_tree(Path(words.config), words.overrides))
    if words.print_config:
        return print_config(config)
    devices = words.options["devices"]
    require_range("--devices", devices, 1, 10**5)
    compiled = graphs_of(config, devices)
    chosen = words.options["graphs"]
    graphs = compiled if chosen is None else str(chosen).split(",")
    if unknown := sorted(set(graphs) - set(compiled)):
        problem = "this recipe compiles no graph of that name"
        raise UserError("--graphs", problem, ",".join(unknown), ",".join(compiled))
    recipe = str(find_recipe(words.config).absolute())
    job = Job("graph", recipe, words.overrides, names_of(graphs, config))
    with tempfile.TemporaryDirectory() as folder:
        try:
            recordings = dry_run([job], Path(folder), config.jit_level, devices)
        except (BuildError, DryRunError) as error:
            raise UserError("dry run", str(error)) from error
    for recording in recordings.values():
        print_recording(recording)
    return 1 if any(recording.findings() for recording in recordings.values()) else 0


def print_recording(recording: Recording) -> None:
    """Print the operators of a graph by kind, and its problems."""
    print(f"{recording.name}: {recording.jit_level}, {recording.seconds:.1f} s")
    print("\n".join(table_of_kinds(recording.operators)))
    for finding in recording.findings():
        print(f"  problem: {finding}")


if __name__ == "__main__":
    sys.exit(run_command(main))

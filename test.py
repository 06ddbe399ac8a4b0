"""Score a checkpoint: python test.py --weight W [--config C] [--split val] [--key value ...]"""

import sys
from collections.abc import Sequence

from mindyolo_v4 import environment  # noqa: F401  sets the process up before MindSpore or OpenCV loads
from mindyolo_v4.command_line import build_parser, parse, run_command
from mindyolo_v4.config import build_config, read_tree
from mindyolo_v4.schema.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    parser = build_parser("test.py", "Score a checkpoint on a split of a data set.")
    parser.add_argument("--exist_ok", action="store_true", help="write into a folder that is not empty")
    arguments = parse(parser, argv)
    recipe, overrides = read_tree(arguments.config), read_tree(None, arguments.overrides)
    weight = build_config(overrides).weight
    if weight is None:
        raise UserError("--weight", "missing", expected="a checkpoint file")
    from mindyolo_v4 import detect

    return detect.test(weight, recipe, overrides, bool(arguments.options["exist_ok"]))


if __name__ == "__main__":
    sys.exit(run_command(main))

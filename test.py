"""Score a checkpoint: python test.py --weight W [--config C] [--split val] [--key value ...]"""

import sys
from collections.abc import Sequence

from mindyolo_v4 import environment  # noqa: F401  sets the process up before MindSpore or OpenCV loads
from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import build_config, merge_trees, read_tree
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command


def main(argv: Sequence[str]) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    parser = build_parser("test.py", "Score a checkpoint on a split of a data set.")
    parser.add_argument(
        "--exist_ok", action="store_true", help="write into a folder that is not empty"
    )
    arguments = parse(parser, argv)
    recipe, overrides = read_tree(arguments.config), read_tree(None, arguments.overrides)
    config = build_config(merge_trees(recipe, overrides, "command line"))
    weight = build_config(overrides).weight
    if weight is None:
        raise UserError("--weight", "missing", expected="a checkpoint file")
    from mindyolo_v4 import classify, detect
    from mindyolo_v4.checkpoint import settings as cards
    from mindyolo_v4.runtime.device import choose_device

    choose_device(
        config.device_target
    )  # before a file is opened, as the checkpoint's card names the task
    test = {"classify": classify.test, "detect": detect.test}[cards.read_card(weight).task]
    return test(weight, recipe, overrides, bool(arguments.options["exist_ok"]))


if __name__ == "__main__":
    sys.exit(run_command(main))

"""Score a checkpoint: python test.py --weight W [--config C] [--split val] [--key value ...]"""

import sys
from collections.abc import Sequence

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command


def main(argv: Sequence[str]) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    environment.prepare()
    from mindyolo_v4.config.command_line import parse_testing
    from mindyolo_v4.config.recipe import build_config, merge_trees, read_tree

    arguments = parse_testing(argv)
    recipe = read_tree(arguments.config)
    overrides = read_tree(None, arguments.overrides)
    asked = build_config(merge_trees(recipe, overrides, "command line"))
    from mindyolo_v4.checkpoint.file import Checkpoint
    from mindyolo_v4.classify import CLASSIFY
    from mindyolo_v4.detect import DETECT
    from mindyolo_v4.engine.testing import test
    from mindyolo_v4.runtime.device import start

    runtime = start(asked)
    with runtime.heartbeat:
        checkpoint = Checkpoint.open(arguments.options["weight"])
        task = CLASSIFY if checkpoint.card.task == CLASSIFY.name else DETECT
        exist_ok = bool(arguments.options["exist_ok"])
        return test(task, checkpoint, recipe, overrides, runtime, exist_ok)


if __name__ == "__main__":
    environment.prepare()
    sys.exit(run_command(main))

"""Draw or name what a checkpoint sees: python predict.py --weight W --source FILE|FOLDER|GLOB"""

import sys
from collections.abc import Sequence

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_stoppable
from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    environment.prepare()
    from mindyolo_v4.config.command_line import build_parser, parse
    from mindyolo_v4.config.recipe import build_config, merge_trees, read_tree
    from mindyolo_v4.deploy.options import add_options, read_options

    parser = build_parser(
        "predict.py", "Draw the objects in images, or name the five best classes of each."
    )
    add_options(parser)
    words = parse(parser, argv)
    words = words.with_default("evaluate.conf_thres", "0.25")
    words = words.with_default("evaluate.iou_thres", "0.45")
    recipe = read_tree(words.config)
    overrides = read_tree(None, words.overrides)
    asked = build_config(merge_trees(recipe, overrides, "command line"))
    weight = words.required("weight")
    options = read_options(words.options)
    from mindyolo_v4.predict import predict

    return predict(weight, recipe, overrides, asked, options, signals)


if __name__ == "__main__":
    sys.exit(run_stoppable(main))

"""Draw or name what a checkpoint sees: mindyolo-v4 predict --weight W --source FILE|FOLDER|GLOB"""

from collections.abc import Sequence

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    from mindyolo_v4.config.recipe import build_config, merge_trees, read_tree
    from mindyolo_v4.deploy.options import add_options, read_options

    parser = build_parser(
        command_for("predict"), "Draw the objects in images, or name the five best classes of each."
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

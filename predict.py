"""Draw or name what a checkpoint sees: python predict.py --weight W --source FILE|FOLDER|GLOB [--key value ...]"""

import sys
from collections.abc import Sequence

from mindyolo_v4 import environment  # noqa: F401  sets the process up before MindSpore or OpenCV loads
from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command


def main(argv: Sequence[str]) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    parser = build_parser(
        "predict.py",
        "Draw the objects that a checkpoint finds in images, or name their five best classes.",
    )
    parser.add_argument("--source", "--image_path", help="image file, folder or glob pattern")
    parser.add_argument(
        "--exist_ok", action="store_true", help="write into a folder that is not empty"
    )
    arguments = (
        parse(parser, argv)
        .with_default("evaluate.conf_thres", "0.25")
        .with_default("evaluate.iou_thres", "0.45")
    )
    recipe, overrides = read_tree(arguments.config), read_tree(None, arguments.overrides)
    weight, source = build_config(overrides).weight, arguments.options["source"]
    for name, value in (("--weight", weight), ("--source", source)):
        if value is None:
            raise UserError(name, "missing")
    from mindyolo_v4 import predict

    return predict.predict(
        str(weight), str(source), recipe, overrides, bool(arguments.options["exist_ok"])
    )


if __name__ == "__main__":
    sys.exit(run_command(main))

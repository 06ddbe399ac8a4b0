"""Train YOLOv4: python train.py --config configs/yolov4/yolov4.yaml [--key value ...]"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mindyolo_v4 import environment  # noqa: F401  sets the process up before MindSpore or OpenCV loads
from mindyolo_v4.command_line import build_parser, parse, run_command
from mindyolo_v4.config import build_config, read_tree

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "yolov4" / "yolov4.yaml"


def main(argv: Sequence[str]) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    parser = build_parser("train.py", "Train a detector.")
    parser.add_argument("--resume", nargs="?", const="auto", metavar="PATH", help="continue from the newest checkpoint")
    arguments = parse(parser, argv)
    if arguments.config is None:
        print(f"no --config given: using {DEFAULT_CONFIG}")
    config_path = Path(arguments.config or DEFAULT_CONFIG)
    tree = read_tree(config_path, arguments.overrides)
    build_config(tree)  # a mistake is told before MindSpore takes seconds to load
    from mindyolo_v4 import detect

    return detect.train(tree, config_path.stem, arguments.options["resume"])


if __name__ == "__main__":
    sys.exit(run_command(main))

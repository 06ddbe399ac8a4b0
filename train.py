"""Train YOLOv4, or CSPDarknet53 on ImageNet: python train.py --config configs/yolov4/yolov4.yaml [--key value ...]"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mindyolo_v4 import environment  # sets the process up before MindSpore or OpenCV loads
from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.runtime.command import run_command

CONFIGS = Path(__file__).parent / "configs"


def main(argv: Sequence[str]) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    parser = build_parser("train.py", "Train a detector or a classifier.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="continue from the newest checkpoint",
    )
    arguments = parse(parser, argv)
    from mindyolo_v4.data.readers.imagenet import holds_synsets

    root = dict(arguments.overrides).get("data.root")
    is_imagenet = root is not None and holds_synsets(root)
    default = CONFIGS / ("cspdarknet53/imagenet.yaml" if is_imagenet else "yolov4/yolov4.yaml")
    if arguments.config is None:
        reason = f", since {root} holds train/<wnid>/" if is_imagenet else ""
        print(f"no --config given: using {default}{reason}", flush=True)
    config_path = Path(arguments.config or default)
    tree = read_tree(config_path, arguments.overrides)
    task = build_config(tree).model.task  # a mistake is told before MindSpore takes seconds to load
    from mindyolo_v4 import classify, detect

    train = {"classify": classify.train, "detect": detect.train}[task]
    return train(tree, config_path.stem, arguments.options["resume"])


if __name__ == "__main__":
    environment.start_again_with_jemalloc()
    environment.listen_for_signals()  # before NumPy starts threads
    sys.exit(run_command(main))

"""Train YOLOv4, or CSPDarknet53 on ImageNet: python train.py --config FILE [--key value ...]"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_stoppable
from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    environment.prepare()
    from mindyolo_v4.config.command_line import build_parser, parse

    parser = build_parser("train.py", "Train a detector or a classifier.")
    help_text = "continue from PATH, or from the run folder's newest checkpoint"
    parser.add_argument("--resume", nargs="?", const="auto", metavar="PATH", help=help_text)
    words = parse(parser, argv)
    from mindyolo_v4.config.recipe import build_config, read_tree  # not for --help: loads NumPy
    from mindyolo_v4.data.readers.imagenet import suggest_recipe

    configs = Path(__file__).parent / "configs"
    recipe = Path(words.config or suggest_recipe(words.overrides, configs))
    tree = read_tree(recipe, words.overrides)
    config = build_config(tree)  # a mistake is reported before MindSpore takes seconds to load
    from mindyolo_v4 import classify, detect
    from mindyolo_v4.engine.training import train
    from mindyolo_v4.runtime.device import start

    task = classify.TASK if config.model.task == classify.TASK.name else detect.TASK
    with (runtime := start(config)).heartbeat:
        return train(task, config, tree, runtime, recipe.stem, words.options["resume"], signals)


if __name__ == "__main__":
    environment.prepare(restart=True)
    sys.exit(run_stoppable(main))

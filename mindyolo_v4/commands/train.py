"""Train YOLOv4, or CSPDarknet53 on ImageNet: mindyolo-v4 train --config FILE [--key value ...]"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    description = "Train a detector or a classifier."
    parser = build_parser(command_for("train"), description, hidden=("split",))
    help_text = "continue from PATH, or from the run folder's newest checkpoint"
    parser.add_argument("--resume", nargs="?", const="auto", metavar="PATH", help=help_text)
    words = parse(parser, argv)
    from mindyolo_v4.config.recipe import (  # loads NumPy
        build_config,
        print_config,
        read_tree,
        require_tiles,
    )
    from mindyolo_v4.data.readers.data_file import located
    from mindyolo_v4.data.readers.imagenet import suggest_recipe

    recipe = Path(words.config or suggest_recipe(words.overrides))
    tree = read_tree(recipe, words.overrides)
    config = build_config(tree)  # a mistake is reported before MindSpore takes seconds to load
    require_tiles(config, read_tree(None, words.overrides))
    config = replace(config, data=located(config.data))
    if words.print_config:
        if config.weight is not None:
            from mindyolo_v4.engine.training import starting_weights  # loads MindSpore

            config = starting_weights(config, tree)[0]
        return print_config(config)
    from mindyolo_v4 import classify, detect
    from mindyolo_v4.engine.training import train
    from mindyolo_v4.runtime.device import start

    task = classify.TASK if config.model.task == classify.TASK.name else detect.TASK
    with (runtime := start(config)).heartbeat:
        train(task, config, tree, runtime, recipe.stem, words.options["resume"], signals)
    return 0

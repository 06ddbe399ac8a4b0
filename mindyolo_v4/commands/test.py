"""Score a checkpoint: mindyolo-v4 test --weight W [--config C] [--split val] [--key value ...]"""

from collections.abc import Sequence

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    from mindyolo_v4.config.recipe import build_config, merge_trees, read_tree

    parser = build_parser(command_for("test"), "Score a checkpoint on a split of a data set.")
    parser.add_argument("--exist_ok", action="store_true", help="write into a folder with files")
    text = "accept a score over images that cannot be read"
    parser.add_argument("--allow_unreadable", action="store_true", help=text)
    words = parse(parser, argv)
    recipe = read_tree(words.config)
    overrides = read_tree(None, words.overrides)
    asked = build_config(merge_trees(recipe, overrides, "command line"))
    weight = words.required("weight")
    from mindyolo_v4 import classify, detect
    from mindyolo_v4.checkpoint.file import Checkpoint
    from mindyolo_v4.engine.testing import test
    from mindyolo_v4.runtime.device import start

    options = {name: bool(words.options[name]) for name in ("exist_ok", "allow_unreadable")}
    with (runtime := start(asked)).heartbeat:
        checkpoint = Checkpoint.open(weight)
        task = classify.TASK if checkpoint.card.task == classify.TASK.name else detect.TASK
        return test(task, checkpoint, recipe, overrides, runtime, signals, **options)

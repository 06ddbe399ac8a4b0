"""Score a checkpoint: mindyolo-v4 test --weight W [--config C] [--split val] [--key value ...]"""

from collections.abc import Sequence
from dataclasses import replace

from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    from mindyolo_v4.checkpoint.settings import config_for_checkpoint
    from mindyolo_v4.config.recipe import print_config, read_tree
    from mindyolo_v4.data.readers.data_file import located
    from mindyolo_v4.deploy.opening import choose_backend, open_weights
    from mindyolo_v4.deploy.options import parse_test

    words = parse_test(argv)
    recipe = read_tree(words.config)
    overrides = read_tree(None, words.overrides)
    weights = open_weights(words.required("weight"))
    config = config_for_checkpoint(weights, recipe, overrides)
    if words.print_config:
        return print_config(config)
    config = replace(config, data=located(config.data))
    chosen = choose_backend(words.options["backend"], weights, config)
    switches = words.options["exist_ok"], words.options["allow_unreadable"]
    if chosen != "mindspore":
        from mindyolo_v4.deploy.scoring import test_backend

        return test_backend(chosen, weights, config, signals, *switches)
    from mindyolo_v4 import classify, detect
    from mindyolo_v4.engine.testing import test
    from mindyolo_v4.runtime.device import start

    with (runtime := start(config)).heartbeat:
        task = classify.TASK if weights.card.task == classify.TASK.name else detect.TASK
        return test(task, weights, config, runtime, signals, *switches)

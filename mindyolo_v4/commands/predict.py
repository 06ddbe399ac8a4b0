"""Draw or name what a checkpoint sees: mindyolo-v4 predict --weight W --source FILE|FOLDER|GLOB"""

from collections.abc import Sequence

from mindyolo_v4.config.command_line import parse
from mindyolo_v4.runtime.signals import StopSignals


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Parse the command line, check the configuration and hand over to the package."""
    from mindyolo_v4.checkpoint.settings import config_for_checkpoint
    from mindyolo_v4.config.evaluate import PREDICTION
    from mindyolo_v4.config.recipe import print_config, read_tree
    from mindyolo_v4.deploy.opening import open_weights
    from mindyolo_v4.deploy.options import PredictOptions, predict_parser

    words = parse(predict_parser(), argv).with_defaults(PREDICTION)
    recipe = read_tree(words.config)
    overrides = read_tree(None, words.overrides)
    weights = open_weights(words.required("weight"))
    config = config_for_checkpoint(weights, recipe, overrides)
    if words.print_config:
        return print_config(config)
    options = PredictOptions(**words.options)
    from mindyolo_v4.predict import predict

    return predict(weights, config, options, signals)

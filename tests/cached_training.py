"""Trains a narrow network three steps: python -m tests.cached_training BATCH_FILE on|off|on,off [KEY=VALUE ...]

Prints a JSON object: the losses with each setting of the compile cache, and what the cache said.
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np

from mindyolo_v4 import environment  # noqa: F401  before MindSpore

# isort: split
from mindspore import Tensor

from benchmarks.made_batch import CLASSES, recipe
from benchmarks.ours import detection_loss, tables
from mindyolo_v4.compile_cache import CompileCache
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.optimizer import build_optimizer
from mindyolo_v4.engine.step import StepSettings, TrainStep
from mindyolo_v4.models.blocks import choose_fused
from mindyolo_v4.models.build import build_detector
from mindyolo_v4.runtime import Runtime, start
from mindyolo_v4.schema.root import Config
from mindyolo_v4.wiring import TrainingForward, normaliser

STEPS = 3
NARROW = (("model.architecture", "yolov4-tiny"), ("model.width", "0.125"), ("optimizer.lr", "0.01"))


def main() -> int:
    """Train once a setting and print what came out."""
    batch_file, settings, *words = sys.argv[1:]
    overrides = [tuple(word.split("=", 1)) for word in words]
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("mindyolo_v4").addHandler(handler)
    logging.getLogger("mindyolo_v4").setLevel(logging.INFO)
    result: dict[str, object] = {}
    runtime = start(recipe(64, *NARROW, *overrides))
    for setting in settings.split(","):
        config = recipe(64, *NARROW, ("compile_cache", setting), *overrides)
        result[setting] = losses(config, runtime, dict(np.load(Path(batch_file))))
    print(json.dumps(result | {"said": said}))
    return 0


def losses(config: Config, runtime: Runtime, batch: dict[str, np.ndarray]) -> list[float]:
    """Return the losses of the first steps, as a training by this configuration computes them."""
    network = build_detector(config.model, CLASSES, config.seed)
    forward = TrainingForward(normaliser(config.data), network, detection_loss(config)).set_train(True)
    ema = Ema(network, config.train.ema) if config.train.ema.decay else None
    settings = StepSettings(config.train.accumulate, config.train.clip_norm)
    step = TrainStep(forward, network, build_optimizer(network, config.optimizer), ema, settings)
    micro_batches = [(Tensor(batch["images"]), *tables(batch))] * config.train.accumulate
    cache = CompileCache(config, runtime, choose_fused(config.model.cpu_fused)[1])
    with cache.around_first_step(step.graphs(), micro_batches[0]):
        found = [float(step(config.optimizer.lr, micro_batches)[0].asnumpy()[0])]
    found += [float(step(config.optimizer.lr, micro_batches)[0].asnumpy()[0]) for _ in range(STEPS - 1)]
    if ema is not None:  # the averages are part of what a step does
        found += [float(value.asnumpy().astype(np.float64).sum()) for value in ema.averages]
    return found


if __name__ == "__main__":
    sys.exit(main())

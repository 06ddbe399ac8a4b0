"""Training steps of CSPDarknet53 as a classifier in MindSpore, in this process.

benchmarks.classifier_step starts it and reads the JSON object that it prints.
"""

import json
import sys

import mindspore as ms
import numpy as np

from benchmarks.common.measure import make_parser
from benchmarks.common.ours import RUNTIME, time_steps
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.train import OptimizerConfig, TrainConfig
from mindyolo_v4.engine.optimizer import build_optimizer
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.losses.classification import ClassificationLoss
from mindyolo_v4.models.blocks import choose_fused
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import parameter_count
from mindyolo_v4.models.forward import TrainingForward
from mindyolo_v4.runtime.device import peak_memory_gb


def main() -> int:
    """Time the step and print the result as JSON."""
    parser = make_parser(
        "benchmarks.common.classifier_ours", __doc__, img_size=224, batch=8, steps=8
    )
    parser.add_argument("--cpu_fused", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args()
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    model = ModelConfig(architecture="cspdarknet53", bn_momentum=0.9, cpu_fused=options.cpu_fused)
    network = build_network(model, options.classes).set_train(True)
    loss = ClassificationLoss(options.classes, LossConfig())
    forward = TrainingForward(DataConfig(), network, loss).set_train(True)
    optimizer = build_optimizer(
        network, OptimizerConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, decay_on="all")
    )
    step = TrainStep(forward, network, optimizer, None, TrainConfig(), RUNTIME)
    rng = np.random.default_rng(0)
    images = ms.Tensor(
        rng.integers(0, 256, (options.batch, 3, options.img_size, options.img_size), np.uint8)
    )
    labels = ms.Tensor(rng.integers(0, options.classes, (options.batch, 1)), ms.int32)
    shares = ms.Tensor(np.ones((options.batch, 1)), ms.float32)

    result = {
        **time_steps(step, (images, labels, shares), options.steps),
        "parameters": parameter_count(network),
        "version": ms.__version__,
        "peak_gb": peak_memory_gb(),
        "cpu_fused": choose_fused(model.cpu_fused)[1],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One measurement of our network in MindSpore, in this process.

python -m benchmarks.common.ours MODE --batch_file FILE

The other commands start it and read the JSON object that it prints. Modes:
  train   the whole step: normalise, network, loss, backward, optimizer, guard against overflow
  infer   the network alone, in inference
  loss    the loss alone with its gradient to the raw maps; the assigner's CPU time per image
  write   raw maps and loss on random weights, with these, for the PyTorch script to compare
"""

import json
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from benchmarks.common.clock import time_calls
from benchmarks.common.made_batch import CLASSES, made_boxes, make_assigner, recipe
from benchmarks.common.measure import make_parser
from benchmarks.common.random_values import random_values
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.optimizer import build_optimizer
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.losses.detection import DetectionLoss
from mindyolo_v4.models.blocks import choose_fused
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.forward import Normalise, TrainingForward
from mindyolo_v4.runtime.device import Runtime, peak_memory_gb, start

RUNTIME = Runtime("CPU", "graph", "default", "O0")
ASSIGNED_IMAGES = 200


def main() -> int:
    """Measure as the command line says and print the result."""
    parser = make_parser("benchmarks.common.ours", __doc__, steps=8)
    parser.add_argument("mode", choices=("train", "infer", "loss", "write"))
    parser.add_argument("--batch_file", type=Path, required=True)
    parser.add_argument("--cpu_fused", default="auto")
    parser.add_argument("--architecture", default="yolov4")
    parser.add_argument("--width", default="1.0")
    parser.add_argument("--depth", default="1.0")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    batch = dict(np.load(options.batch_file))
    overrides = {
        "model.architecture": options.architecture,
        "model.width": options.width,
        "model.depth": options.depth,
        "model.cpu_fused": options.cpu_fused,
        "loss.ignore_threshold": str(batch["ignore_threshold"]),
    }
    config = recipe(batch["images"].shape[2], *overrides.items())
    start(config)
    result = {
        "train": lambda: train(config, batch, options.steps),
        "infer": lambda: infer(config, batch, options.steps),
        "loss": lambda: loss_alone(config, batch, options.steps),
        "write": lambda: write(config, batch, options.output),
    }[options.mode]()
    about = {"version": ms.__version__, "cpu_fused": choose_fused(config.model.cpu_fused)[1]}
    print(json.dumps({**result, **about, "peak_gb": peak_memory_gb()}))
    return 0


def train(config: Config, batch: dict[str, np.ndarray], steps: int) -> dict:
    """Time a training step on a new network."""
    return time_steps(training_step(config), (Tensor(batch["images"]), *tables(batch)), steps)


def time_steps(step: TrainStep, tensors: tuple[Tensor, ...], steps: int) -> dict:
    """Time the first call and `steps` further ones of a training step on one batch."""
    losses: list[float] = []
    core_s: list[float] = []

    def call() -> None:
        if not losses:
            step.compile(1e-5, tensors)
        started = time.process_time()
        losses.append(float(step(1e-5, [tensors])[0].asnumpy()[0]))
        core_s.append(time.process_time() - started)

    timed = time_calls(call, steps)
    compile_s = timed["first_s"] - timed["step_s"]
    return {**timed, "losses": losses, "compile_s": compile_s, "step_core_s": min(core_s[1:])}


def training_step(config: Config) -> TrainStep:
    """Return the step that `detect.train` compiles, on a new network."""
    network = build_network(config.model, CLASSES, config.seed)
    forward = TrainingForward(config.data, network, detection_loss(config))
    forward.set_train(True)
    optimizer = build_optimizer(network, config.optimizer)
    return TrainStep(forward, network, optimizer, None, TrainConfig(), RUNTIME)


def infer(config: Config, batch: dict[str, np.ndarray], steps: int) -> dict:
    """Time the network in inference; the images are normalised before."""
    network = build_network(config.model, CLASSES, config.seed).set_train(False)
    images = Tensor(batch["images"] / np.float32(255))
    return time_calls(lambda: [level.asnumpy() for level in network(images)], steps)


def loss_alone(config: Config, batch: dict[str, np.ndarray], steps: int) -> dict:
    """Time the loss and its gradient on the raw maps of a new network, and the assigner."""
    levels = config.model.anchor_set.levels
    size = config.data.img_size
    rng = np.random.default_rng(1)
    maps = []
    for level in levels:
        channels = len(level.anchor_ids) * (5 + CLASSES)
        shape = (len(batch["images"]), channels, *[size // level.stride] * 2)
        maps.append(Tensor(rng.normal(-2, 1, shape).astype(np.float32)))
    differentiated = ms.value_and_grad(LossOfMaps(detection_loss(config)), (0, 1, 2), None)
    graph = ms.jit(differentiated)
    constants = tables(batch)

    def call() -> None:
        value, gradients = graph(*maps, *constants)
        value.asnumpy()
        gradients[0].asnumpy()

    return {**time_calls(call, steps), "assign_cpu_s": assign_seconds(config)}


def assign_seconds(config: Config) -> float:
    """Return the CPU seconds that the target assignment of one image takes."""
    rng = np.random.default_rng(0)
    assign = make_assigner(config)
    images = [made_boxes(rng) for _ in range(ASSIGNED_IMAGES)]
    assign(*images[0])
    started = time.process_time()
    for boxes, classes in images:
        assign(boxes, classes)
    return (time.process_time() - started) / ASSIGNED_IMAGES


def write(config: Config, batch: dict[str, np.ndarray], output: Path) -> dict:
    """Write weights, raw maps and the loss with its parts."""
    network = build_network(config.model, CLASSES).set_train(False)
    rng = np.random.default_rng(0)
    # A new network's own weights would give maps that are all bias.
    for name, parameter in network.parameters_dict().items():
        parameter.set_data(Tensor(random_values(rng, name, parameter.shape)))
    raw_maps = network(Normalise(config.data)(Tensor(batch["images"])))
    total, parts = detection_loss(config)(raw_maps, *tables(batch))
    weights = network.parameters_dict()
    arrays = {f"weight:{name}": value.asnumpy() for name, value in weights.items()}
    arrays |= {f"map:{number}": level.asnumpy() for number, level in enumerate(raw_maps)}
    np.savez(output, loss=np.array([float(one) for one in (total, *parts)]), **arrays)
    return {"loss": float(total)}


class LossOfMaps(nn.Cell):
    """The total of the loss as a function of three maps."""

    def __init__(self, loss: nn.Cell):
        super().__init__()
        self.loss = loss

    def construct(self, map8, map16, map32, match_ids, match_values, truths_xyxy_px):
        total, _ = self.loss((map8, map16, map32), match_ids, match_values, truths_xyxy_px)
        return total


def detection_loss(config: Config) -> DetectionLoss:
    """Return the loss that a training by this configuration uses."""
    return DetectionLoss(config.model.anchor_set, CLASSES, config.data.img_size, config.loss)


def tables(batch: dict[str, np.ndarray]) -> tuple[Tensor, ...]:
    """Return the assigner's tables."""
    return tuple(Tensor(batch[name]) for name in ("match_ids", "match_values", "truths_xyxy_px"))


if __name__ == "__main__":
    sys.exit(main())

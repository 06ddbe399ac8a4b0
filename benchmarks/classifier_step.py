"""Seconds a training step of the full CSPDarknet53 takes at 224 px, batch 8, float32, beside PyTorch on the same CPU.

python -m benchmarks.classifier_step --torch_python /path/to/scratch/bin/python

PyTorch lives in an environment of its own, which --torch_python names; both networks run in turn, so that the machine's
noise meets both. Forward, cross-entropy, backward and SGD with momentum; PyTorch eagerly, contiguous and channels_last,
of which the faster counts. The bound: 1.1 times PyTorch's median step.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import figure

REPOSITORY = Path(__file__).resolve().parent.parent
SIZE, BATCH, CLASSES, WARM_UP = 224, 8, 1000, 2


def main(argv: Sequence[str]) -> int:
    """Run one side as a child, or all sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch_python", help="interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="timed steps a round and side")
    parser.add_argument("--side", choices=("mindspore", "contiguous", "channels_last"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.side is not None:
        run = _mindspore if arguments.side == "mindspore" else _torch
        first, step = run(arguments.side, arguments.steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
        print(f"first_s={first:.3f} step_s={step:.4f} peak_gb={peak:.3f}")
        return 0
    if arguments.torch_python is None:
        parser.error("--torch_python is missing: an interpreter that has torch")
    pythons = {"mindspore": sys.executable, **dict.fromkeys(("contiguous", "channels_last"), arguments.torch_python)}
    results: dict[str, list[dict[str, float]]] = {side: [] for side in pythons}
    for _ in range(arguments.rounds):
        for side, python in pythons.items():
            command = [python, "-m", "benchmarks.classifier_step", "--side", side, "--steps", str(arguments.steps)]
            results[side].append(_last_line(command))
    for side, runs in results.items():
        shown = "  ".join(f"{name} {statistics.median(run[name] for run in runs):.3f}" for name in runs[0])
        print(f"{side:<14}{shown}")
    steps = {side: statistics.median(run["step_s"] for run in runs) for side, runs in results.items()}
    peer = min(steps["contiguous"], steps["channels_last"])
    return 0 if figure("classifier_step_s", steps["mindspore"], 1.1, peer) else 1


def _last_line(command: Sequence[str]) -> dict[str, float]:
    """Run a command from the repository and return the `name=value` words of its last line."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    words = (word.partition("=") for word in done.stdout.strip().splitlines()[-1].split())
    return {name: float(value) for name, _, value in words}


def _mindspore(side: str, steps: int) -> tuple[float, float]:
    """Return the seconds of the first step, compilation included, and the median of the timed ones."""
    from mindyolo_v4 import environment  # noqa: F401  first: it sets the process up

    # isort: split
    import mindspore as ms
    import numpy as np

    from mindyolo_v4.engine.optimizer import build_optimizer
    from mindyolo_v4.engine.step import StepSettings, TrainStep
    from mindyolo_v4.losses.classification import ClassificationLoss
    from mindyolo_v4.models.build import build_classifier
    from mindyolo_v4.models.normalise import Normalise
    from mindyolo_v4.schema.loss import LossConfig
    from mindyolo_v4.schema.model import ModelConfig
    from mindyolo_v4.schema.train import OptimizerConfig
    from mindyolo_v4.wiring import TrainingForward

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    network = build_classifier(ModelConfig(architecture="cspdarknet53", bn_momentum=0.9), CLASSES).set_train(True)
    forward = TrainingForward(Normalise((0.0,) * 3, (255.0,) * 3), network, ClassificationLoss(CLASSES, LossConfig()))
    optimizer = build_optimizer(network, OptimizerConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, decay_on="all"))
    step = TrainStep(forward.set_train(True), network, optimizer, None, StepSettings())
    rng = np.random.default_rng(0)
    images = ms.Tensor(rng.integers(0, 256, (BATCH, 3, SIZE, SIZE), np.uint8))
    targets = ms.Tensor(rng.integers(0, CLASSES, (BATCH, 1)), ms.int32), ms.Tensor(np.ones((BATCH, 1)), ms.float32)
    return _time(lambda: step(1e-3, [(images, *targets)])[0].asnumpy(), steps)


def _torch(side: str, steps: int) -> tuple[float, float]:
    """The same for PyTorch."""
    import torch

    from benchmarks.torch_cspdarknet53 import CSPDarknet53

    torch.manual_seed(0)
    layout = torch.channels_last if side == "channels_last" else torch.contiguous_format
    network = CSPDarknet53(CLASSES).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    images = torch.rand(BATCH, 3, SIZE, SIZE).to(memory_format=layout)
    labels = torch.randint(0, CLASSES, (BATCH,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return _time(step, steps)


def _time(step: Callable[[], object], steps: int) -> tuple[float, float]:
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return seconds[0], statistics.median(seconds[WARM_UP:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

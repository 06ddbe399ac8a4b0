"""What a training step needs on a CPU, estimated before anything is compiled.

    memory = base + bytes per parameter x parameters + bytes per value x values x images
    time   = (a x operations + b x values) x images / rate of a matrix product

Operations are those of the network and values those that its convolutions return, for one image.
The rate is measured when the estimate is made, so that it follows the machine.
`python -m benchmarks.training_cost` measures trainings and fits the numbers.
"""

import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
from mindspore import nn

from mindyolo_v4.config.root import Config
from mindyolo_v4.models.blocks import choose_norm
from mindyolo_v4.models.describe import giga_flops, mega_activations, parameter_count

BASE_GB = 0.96
BYTES_PER_PARAMETER = 10.9  # weight, gradient and momentum, of which a part is in BASE_GB
BYTES_PER_VALUE = 9.0
MEMORY_ERROR = 0.15  # relative; the largest one of the fit is 0.12
PER_OPERATION = 4.8  # operations of a matrix product that take as long as one of the network
PER_VALUE = 730.0  # the same, as one value
TIME_ERROR = 0.2  # relative; the largest one of the fit is 0.14
_FLOAT_BYTES = 4


def describe_cost(config: Config, network: nn.Cell, images: int) -> str:
    """Return the estimate as a line of the log; "" for a training that was not measured.

    Args:
        images: of an epoch, on this device.
    """
    train = config.train
    library, _ = choose_norm(config.model)
    if library is None or train.recompute:
        return ""
    memory_gb = estimate_memory_gb(config, network)
    image_s = estimate_seconds(config, network)
    step_s = image_s * train.per_batch_size * train.accumulate
    epoch = timedelta(seconds=max(1, round(image_s * images)))
    return (
        f"estimate: {memory_gb:.1f} GB of memory (+-{100 * MEMORY_ERROR:.0f} %, without loader "
        f"processes), {step_s:.2g} s per step and {epoch} per epoch (+-{100 * TIME_ERROR:.0f} %, "
        "without validation)"
    )


def estimate_memory_gb(config: Config, network: nn.Cell) -> float:
    """Return the peak memory of the process that trains, in GB."""
    train = config.train
    parameters = parameter_count(network)
    values = 1e6 * mega_activations(network, config.data.img_size) * train.per_batch_size
    further = [train.ema.decay > 0.0, config.optimizer.kind == "adamw", train.accumulate > 1]
    per_parameter = BYTES_PER_PARAMETER + _FLOAT_BYTES * sum(further)
    return BASE_GB + (per_parameter * parameters + BYTES_PER_VALUE * values) / 1e9


def estimate_seconds(config: Config, network: nn.Cell) -> float:
    """Return the time that one image takes in a training step, in seconds."""
    size = config.data.img_size
    giga_values = mega_activations(network, size) / 1000
    operations = PER_OPERATION * giga_flops(network, size) + PER_VALUE * giga_values
    return operations / matrix_gflops()


def matrix_gflops(
    side: int = 1024, repeats: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the best rate of a float32 matrix product on this process's cores, GFLOP/s.

    Args:
        clock: returns seconds; with `time.process_time` the rate is per second of the processor.
    """
    matrix = np.ones((side, side), np.float32)
    taken_s = []
    for _ in range(repeats):
        started_s = clock()
        matrix @ matrix
        taken_s.append(clock() - started_s)
    return 2 * side**3 / min(taken_s) / 1e9

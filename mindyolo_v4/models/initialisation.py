"""The values that a network starts training from, a function of seed and parameter name."""

import math
from typing import Literal
from zlib import crc32

import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.models.blocks import Prediction
from mindyolo_v4.models.drop_block import DropBlock
from mindyolo_v4.models.weighted_sum import WeightedSum

PREDICTION_STD = 0.01


def initialise(
    network: nn.Cell,
    seed: int,
    objectness_prior: float = 0.01,
    class_prior: Literal["auto"] | None = None,
) -> None:
    """Set every parameter of `network`; equal seeds give equal values in every process.

    Convolutions and dense layers: U(-1, 1) sqrt(2 / fan_in), darknet's; biases 0. Batch
    normalisation: scale 1, shift 0, running mean 0, running variance 1. Predictions: weights
    N(0, 0.01^2), so that the first logits are nearly the biases: log(p / (1 - p)) for objectness
    and classes, 0 for boxes (Lin et al. 2017, Focal Loss, section 4.1). Weights of residual
    sums: 1, darknet's.

    Args:
        seed: not negative.
        objectness_prior: p, the first probability of every objectness and class output.
        class_prior: "auto": that of the C class outputs is 1 / (C + 1) instead.
    """
    for name, cell in network.cells_and_names():
        rng = np.random.default_rng([seed, crc32(f"{name}.weight".encode())])
        if isinstance(cell, Prediction):
            weights = PREDICTION_STD * rng.standard_normal(cell.weight.shape, np.float32)
            cell.weight.set_data(Tensor(weights))
            cell.bias.set_data(Tensor(_prediction_bias(cell, objectness_prior, class_prior)))
        elif isinstance(cell, nn.Conv2d | nn.Dense):
            cell.weight.set_data(Tensor(_darknet_uniform(cell.weight.shape, rng)))
            if cell.has_bias:
                _fill(cell.bias, 0.0)
        elif isinstance(cell, nn.BatchNorm2d):
            _fill(cell.gamma, 1.0)
            _fill(cell.beta, 0.0)
            _fill(cell.moving_mean, 0.0)
            _fill(cell.moving_variance, 1.0)
        elif isinstance(cell, WeightedSum):
            _fill(cell.weights, 1.0)
        elif isinstance(cell, DropBlock):
            cell.key = int(rng.integers(-(2**31), 2**31))


def _fill(parameter: Parameter, value: float) -> None:
    parameter.set_data(Tensor(np.full(parameter.shape, value, np.float32)))


def _darknet_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    bound = np.float32(math.sqrt(2 / math.prod(shape[1:])))
    values = rng.random(shape, np.float32)
    values *= 2 * bound
    values -= bound
    return values


def _prediction_bias(
    cell: Prediction, prior: float, class_prior: Literal["auto"] | None
) -> NDArray[np.float32]:
    channels = cell.out_channels // cell.anchors
    bias = np.zeros((cell.anchors, channels), np.float32)
    bias[:, 4:] = math.log(prior / (1 - prior))
    if class_prior == "auto":
        bias[:, 5:] = -math.log(channels - 5)  # the logit of 1 / (C + 1)
    return bias.reshape(-1)

"""Checkpoints of ours with the golden weights, at full size and without any file."""

from pathlib import Path

import numpy as np

from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.weights.topology import layers_of
from tests.models.golden import parameter_values


def write_checkpoint(path: Path, architecture: str, classes: int, img_size: int) -> int:
    """Write a checkpoint whose values are the golden ones, in the order of a `.weights` file; return their number."""
    from mindspore import Tensor

    model, tensors, count = ModelConfig(architecture), {}, 0
    for layer in layers_of(model, classes):
        for name, shape in layer.shapes().items():
            values = parameter_values(name, shape, count)
            count += int(np.prod(shape))
            tensors[name] = Tensor(values)
    is_detector = architecture != "cspdarknet53"
    names = tuple(str(number) for number in range(classes))
    preprocessing = Preprocessing("stretch" if is_detector else "crop")
    card = Card(
        "detect" if is_detector else "classify",
        model,
        names,
        img_size,
        preprocessing,
        "golden weights",
    )
    checkpoint.save(path, tensors, record_to_tree(card))
    return count

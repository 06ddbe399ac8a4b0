"""A checkpoint of random weights.

python -m benchmarks.common.made_checkpoint FILE ARCHITECTURE CLASSES IMG_SIZE
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.common.random_values import random_values
from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.models.topology import parameter_shapes


def write_checkpoint(path: Path, model: ModelConfig, classes: int, img_size: int) -> None:
    """Write a checkpoint of random weights; equal arguments give equal weights."""
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    # With Mish in the neck too, values would grow from layer to layer.
    gain = 3.0 if model.activations[1] == "mish" else 4.0
    tensors = {
        name: Tensor(random_values(rng, name, shape, gain))
        for name, shape in parameter_shapes(model, classes).items()
    }
    is_detector = model.task == "detect"
    card = Card(
        task=model.task,
        model=model,
        class_names=tuple(str(number) for number in range(classes)),
        img_size=img_size,
        preprocessing=Preprocessing("stretch" if is_detector else "crop"),
        source="random weights",
    )
    checkpoint.save(path, tensors, record_to_tree(card))


if __name__ == "__main__":
    write_checkpoint(
        Path(sys.argv[1]), ModelConfig(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    )

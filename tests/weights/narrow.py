"""Small networks in our format, conversion commands in this process, outputs in graph mode."""

from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.weights import (
    darknet,
    inspect,
    mindspore_zoo,
    mindyolo,
    pytorch,
    safetensors,
    verify,
)

Tensors = dict[str, NDArray]
MODULES = {
    module.__name__.rsplit(".", 1)[1]: module
    for module in (darknet, inspect, mindspore_zoo, mindyolo, pytorch, safetensors, verify)
}
DETECTOR = ModelConfig("yolov4", width=0.05, depth=0.1)
TINY = ModelConfig("yolov4-tiny", width=0.125)
CSP = ModelConfig("yolov4-csp", width=0.05, depth=0.1)
X_MISH = ModelConfig("yolov4x-mish", width=0.05, depth=0.1)
TINY_3L = ModelConfig("yolov4-tiny-3l", width=0.125)
CLASSIFIER = ModelConfig("cspdarknet53", width=0.05, depth=0.1)


def run(command: str, *arguments: object) -> int:
    """Run a command of `convert` in this process; return its exit status."""
    return run_command(MODULES[command].main, [str(argument) for argument in arguments])


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Tensors:
    """Return values that keep a network's activations of moderate size, by name."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.uniform(-0.1, 0.1, shape)
        else:
            value = rng.uniform(-1, 1, shape) * np.sqrt(4 / np.prod(shape[1:]))
        tensors[name] = value.astype(np.float32)
    return tensors


def write_own(
    path: Path,
    model: ModelConfig = DETECTOR,
    classes: int = 3,
    tensors: Tensors | None = None,
    **card: object,
) -> Path:
    """Write a checkpoint of ours and return its path; `card` replaces fields of the card."""
    is_classifier = model.architecture == "cspdarknet53"
    made = Card(
        "classify" if is_classifier else "detect",
        model,
        tuple(f"class{number}" for number in range(classes)),
        64,
        Preprocessing("crop" if is_classifier else "stretch"),
        "test",
    )
    values = random_tensors(parameter_shapes(model, classes)) if tensors is None else tensors
    rows = {name: Tensor.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}
    save(path, rows, record_to_tree(replace(made, **card)))  # type: ignore[arg-type]
    return path


def read_tensors(path: Path) -> Tensors:
    """Return a checkpoint's tensors as MindSpore reads them."""
    return {
        name: value.asnumpy()
        for name, value in ms.load_checkpoint(str(path)).items()
        if isinstance(value, Tensor)
    }


def card_of(path: Path) -> Card:
    """Return the card of a checkpoint of ours."""
    return Checkpoint.open(path).card


def build(path: Path) -> nn.Cell:
    """Return the network that a checkpoint's card describes, with its weights."""
    checkpoint = Checkpoint.open(path)
    card = checkpoint.card
    network = build_network(replace(card.model, cpu_fused="off"), len(card.class_names))
    checkpoint.load_weights(network)
    return network.set_train(False)


def assert_same(found: Tensors, expected: Tensors) -> None:
    """Compare names, shapes, types and bits."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype, name
        assert found[name].tobytes() == value.tobytes(), name

"""The network that a checkpoint describes."""

from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.build import build_network

MODEL = ModelConfig("yolov4-tiny", width=0.125, cpu_fused="auto")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = build_network(MODEL, 3, seed=5)
    card = Card("detect", MODEL, ("a", "b", "c"))
    save(tmp_path / "x.ckpt", named_parameters(network), record_to_tree(card))
    return tmp_path / "x.ckpt"


def test_the_network_has_the_files_weights(path: Path, graph_mode: None) -> None:
    expected = named_parameters(build_network(MODEL, 3, seed=5))
    network = load_network(Checkpoint.open(path), "detect")
    assert not network.training
    for name, value in named_parameters(network).items():
        np.testing.assert_array_equal(value.asnumpy(), expected[name].asnumpy(), err_msg=name)


def test_another_task_is_refused(path: Path) -> None:
    problem = r"x\.ckpt: holds no classifier \(got detect, expected classify\)"
    with pytest.raises(UserError, match=problem):
        load_network(Checkpoint.open(path), "classify")


def test_a_part_of_a_network_is_refused(path: Path) -> None:
    parameters = named_parameters(build_network(MODEL, 3))
    card = record_to_tree(Checkpoint.open(path).card)
    for name in [name for name in parameters if name.startswith("head.")]:
        del parameters[name]
    for names in (["a", "b", "c"], []):
        save(path, parameters, card | {"class_names": names})
        for task in ("detect", None):
            with pytest.raises(UserError, match="holds a part of its network only"):
                load_network(Checkpoint.open(path), task)

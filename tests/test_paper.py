"""The paper's options together in a narrow yolov4: CmBN, DropBlock, weighted residuals, SAT."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, ops

from mindyolo_v4.checkpoint.parameters import named_parameters, run_state, step_state
from mindyolo_v4.config.recipe import build_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.detect import TASK
from mindyolo_v4.distributed.collectives import Ranks
from mindyolo_v4.engine.parts import TrainingParts
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.training import altering
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from tests.support.tiny_task import RUNTIME

CLASSES = 4


def paper_config(root: Path) -> Config:
    """Return two steps of two micro-batches of two images; the images of the second are altered."""
    tree = {
        "model": {"architecture": "yolov4", "width": 0.125, "depth": 0.1, "norm": "cmbn"},
        "data": {"format": "yolo", "root": str(root), "train": "images/train"},
        "optimizer": {"lr": 0.001},
        "train": {"epochs": 2, "per_batch_size": 2, "accumulate": 2},
    }
    tree["model"] |= {"residual": "weighted", "dropblock": {"prob": 0.1}}
    tree["data"] |= {"img_size": 64, "num_workers": 1}
    tree["train"] |= {"sat_prob": 1.0, "sat_lr": 0.25}
    return build_config(tree)


def session_of(config: Config) -> Session:
    """Return a training of the detector, without a run folder."""
    stream = TASK.stream(config, TASK.read(config.data, "train"), Ranks())
    network = TASK.build(config.model, CLASSES, config.seed)
    parts = TrainingParts(
        TASK.forward(config, network, CLASSES),
        network,
        stream.batches,
        stream.steps_per_epoch,
        None,
        {},
        altering(TASK, config, network, RUNTIME),
    )
    return Session(parts, config, RUNTIME)


@dataclass
class Result:
    """What the steps of a training leave."""

    state: dict[str, np.ndarray] = field(default_factory=dict)  # of all that a step changes
    losses: list[np.ndarray] = field(default_factory=list)
    finite: list[bool] = field(default_factory=list)
    altered: list[bool] = field(default_factory=list)  # of each micro-batch


def state_of(session: Session) -> dict[str, np.ndarray]:
    return {name: value.asnumpy().copy() for name, value in session.tensors().items()}


def train(session: Session, state: dict[str, np.ndarray]) -> Result:
    """Do the steps of a training from a state."""
    for name, value in session.tensors().items():
        ops.assign(value, Tensor(state[name]))
    session.parts.forward.set_train(True)
    session.train_step.update.remember_statistics()
    result = Result()
    for step, batches in enumerate(session.micro_batches()):
        trained = session.adversary(step, batches)
        for batch, own in zip(batches, trained, strict=True):
            result.altered.append(bool((batch[0].asnumpy() != own[0].asnumpy()).any()))
        values, finite = session.train_step(session.plan.rates[step], trained)
        result.losses.append(values.asnumpy())
        result.finite.append(bool(finite.asnumpy()))
    result.state = state_of(session)
    return result


@pytest.mark.slow
def test_the_options_of_the_paper_train_together(tmp_path: Path, graph_mode: None) -> None:
    """Two steps move every weight; the same seed and state give the same bits."""
    write_scenes(tmp_path, SceneSet(train=4, val=1, img_size=128, seed=0))
    session = session_of(paper_config(tmp_path))
    network = session.parts.network
    start = state_of(session)
    first = train(session, start)
    assert first.finite == [True, True]
    assert np.isfinite(first.losses).all() and (np.array(first.losses) > 0).all()
    assert first.altered == [False, False, True, True]

    trained = [name for name, value in named_parameters(network).items() if value.requires_grad]
    assert sum(name.endswith(".sum.weights") for name in trained) == 5
    still = [name for name in trained if np.array_equal(first.state[name], start[name])]
    assert still == []
    assert [int(value.asnumpy()[0]) for value in run_state(network).values()] == [4, 4]
    assert not any(value.asnumpy().any() for value in step_state(network).values())

    again = named_parameters(TASK.build(session.config.model, CLASSES, session.config.seed))
    for name, value in again.items():
        np.testing.assert_array_equal(value.asnumpy(), start[name])
    second = train(session, start)
    np.testing.assert_array_equal(second.losses, first.losses)
    for name, value in first.state.items():
        np.testing.assert_array_equal(second.state[name], value)

"""A training put together: which micro-batches a step takes, what a checkpoint holds."""

import pytest

from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.engine.session import Session
from tests.support.tiny_task import RUNTIME, Task, config

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_micro_batches_that_fill_no_step_of_an_epoch_are_passed_over():
    task = Task(steps_per_epoch=5)
    session = Session(task.parts(), config(accumulate=2, epochs=2), RUNTIME)
    groups = [len(group) for group in session.micro_batches()]
    assert groups == [2, 2, 2, 2]
    assert task.asked == list(range(10))  # of which 4 and 9 fill no step
    assert session.last_step == 4


def test_a_session_continues_at_its_step():
    task = Task(steps_per_epoch=5)
    session = Session(task.parts(), config(accumulate=2, epochs=2), RUNTIME)
    session.state.step = 3
    assert len(list(session.micro_batches())) == 1
    assert task.asked == [7, 8, 9]
    session.state.step = 4
    assert session.is_over
    assert list(session.micro_batches()) == []


def test_a_checkpoint_holds_all_that_a_step_changes():
    settings = config(ema=EmaConfig(0.9, 4.0), loss_scale="dynamic")
    names = set(Session(Task().parts(), settings, RUNTIME).tensors())
    assert {"stem.weight", "bn.moving_mean", "ema.bn.moving_mean", "ema.updates"} <= names
    assert {"optimizer.global_step", "optimizer.moments.head.bias"} <= names
    assert {"scaler.scale_value", "scaler.counter"} <= names
    plain = set(Session(Task().parts(), config(), RUNTIME).tensors())
    assert not any(name.startswith(("ema.", "scaler.")) for name in plain)

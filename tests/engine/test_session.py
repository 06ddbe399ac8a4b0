"""A training put together: which micro-batches a step takes, what a checkpoint holds."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.engine.session import Session
from mindyolo_v4.errors import UserError
from tests.support.runs import rows, tensor_bytes
from tests.support.tiny_task import RUNTIME, Task, config, fit

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


def test_a_fitted_schedule_ends_where_the_time_does(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    monkeypatch.setattr("mindyolo_v4.engine.session.fitted_epochs", lambda *_: 3)
    settings = config(epochs=50, max_minutes=60.0, fit_schedule=True, val_interval=10)
    (tmp_path / "whole").mkdir()
    (tmp_path / "again").mkdir()
    told: list[int] = []
    task = Task()
    session = fit(task.parts(set_epochs=told.append), settings, RUNTIME, tmp_path / "whole")
    assert (session.state.step, session.stopped_by) == (12, "epochs")
    assert told == [50, 3]
    assert len(task.scored) == 2  # the first epoch, whose validation is timed, and the last one
    assert "3 epochs fit into 60 minutes" in caplog.text
    # From the second epoch on, the rates are those of three epochs.
    expected = Session(Task().parts(), config(epochs=3), RUNTIME).plan.rates
    rates = [float(row["lr"]) for row in rows(tmp_path / "whole" / "steps.csv")]
    np.testing.assert_allclose(rates[4:], expected[4:], rtol=1e-6)

    # A training that goes on from the second epoch keeps the number, whatever the clock says now.
    monkeypatch.undo()
    checkpoint = Checkpoint.open(tmp_path / "whole" / "epoch_0002.ckpt")
    again = fit(Task().parts(), settings, RUNTIME, tmp_path / "again", checkpoint)
    assert again.state.step == 12
    assert tensor_bytes(tmp_path / "again/last.ckpt") == tensor_bytes(tmp_path / "whole/last.ckpt")

    # Another limit fits the schedule again, at the end of the epoch that begins.
    monkeypatch.setattr("mindyolo_v4.engine.session.fitted_epochs", lambda *_: 5)
    longer = replace(settings, train=replace(settings.train, max_minutes=90.0))
    for name, epochs_before in (("epoch_0002", 3), ("epoch_0003", 4)):
        (tmp_path / name).mkdir()
        checkpoint = Checkpoint.open(tmp_path / "whole" / f"{name}.ckpt")
        more = fit(Task().parts(), longer, RUNTIME, tmp_path / name, checkpoint)
        assert (more.state.step, more.state.epochs, more.state.fitted_minutes) == (20, 5, 90.0)
        rates = [float(row["lr"]) for row in rows(tmp_path / name / "steps.csv")]
        plans = [
            Session(Task().parts(), config(epochs=epochs), RUNTIME).plan.rates
            for epochs in (epochs_before, 5)
        ]
        first = checkpoint.step
        wanted = [*plans[0][first : first + 4], *plans[1][first + 4 :]]
        np.testing.assert_allclose(rates, wanted, rtol=1e-6)


def test_a_checkpoint_holds_all_that_a_step_changes():
    settings = config(ema=EmaConfig(0.9, 4.0), loss_scale="dynamic")
    names = set(Session(Task().parts(), settings, RUNTIME).tensors())
    assert {"stem.weight", "bn.moving_mean", "ema.bn.moving_mean", "ema.updates"} <= names
    assert {"optimizer.global_step", "optimizer.moments.head.bias"} <= names
    assert {"scaler.scale_value", "scaler.counter"} <= names
    plain = set(Session(Task().parts(), config(), RUNTIME).tensors())
    assert not any(name.startswith(("ema.", "scaler.")) for name in plain)


SCORES = (0.25, 0.5, 0.5, None, 0.125, 0.75)  # of the epochs 1 to 6


@pytest.mark.parametrize(
    ("patience", "epochs", "stopped_by"),
    [(1, 3, "patience"), (2, 5, "patience"), (3, 6, "epochs"), (None, 6, "epochs")],
)
def test_patience_ends_a_training_that_does_not_improve(tmp_path, patience, epochs, stopped_by):
    """An equal AP is not an improvement, and one that is undefined does not count."""
    settings = config(epochs=6, patience=patience)
    result = fit(Task(scores=SCORES).parts(), settings, RUNTIME, tmp_path)
    assert (result.state.epoch, result.stopped_by) == (epochs, stopped_by)
    assert len(rows(tmp_path / "metrics.csv")) == epochs
    assert result.state.best["epoch"] == (2 if epochs < 6 else 6)


def test_a_training_that_patience_has_ended_stays_ended_until_it_gets_more(tmp_path):
    settings = config(epochs=6, patience=1)
    fit(Task(scores=SCORES).parts(), settings, RUNTIME, tmp_path)
    last = Checkpoint.open(tmp_path / "last.ckpt")
    again = fit(Task().parts(), settings, RUNTIME, tmp_path, last)
    assert (again.state.step, again.stopped_by) == (12, "patience")
    more = replace(settings, train=replace(settings.train, patience=2))
    longer = fit(Task(scores=SCORES[3:]).parts(), more, RUNTIME, tmp_path, last)
    assert (longer.state.epoch, longer.stopped_by) == (5, "patience")


@pytest.mark.parametrize("fits", [False, True])
def test_a_training_behind_its_time_limit_stays_ended_until_it_gets_more(tmp_path, fits):
    settings = config(epochs=50, max_minutes=1e-6, fit_schedule=fits)
    fit(Task().parts(), settings, RUNTIME, tmp_path)
    last = Checkpoint.open(tmp_path / "last.ckpt")
    again = fit(Task().parts(), settings, RUNTIME, tmp_path, last)
    assert (again.state.step, again.stopped_by) == (4, "max_minutes")
    more = config(epochs=2, max_minutes=60.0)
    longer = fit(Task().parts(), more, RUNTIME, tmp_path, last)
    assert (longer.state.step, longer.stopped_by) == (8, "epochs")


@pytest.mark.parametrize("epochs", [2, 3])  # of which the checkpoint has 2
def test_another_folder_is_whole_too(tmp_path, epochs):
    """The best epoch is the first one, in the folder that the training continues."""
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    fit(Task(scores=(0.5, 0.25)).parts(), config(epochs=2), RUNTIME, tmp_path / "before")
    last = Checkpoint.open(tmp_path / "before" / "last.ckpt")
    task = Task(scores=(0.25,))
    result = fit(task.parts(), config(epochs=epochs), RUNTIME, tmp_path / "after", last)
    assert result.state.step == 4 * epochs
    assert Checkpoint.open(tmp_path / "after" / "last.ckpt").step == 4 * epochs
    for name in ("best.ckpt", "metrics.json"):
        held = [(tmp_path / folder / name).read_bytes() for folder in ("before", "after")]
        assert held[0] == held[1]


def test_a_damaged_best_checkpoint_does_not_hold_up_the_training(tmp_path, caplog):
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    fit(Task(scores=(0.5, 0.25)).parts(), config(epochs=2), RUNTIME, tmp_path / "before")
    (tmp_path / "before" / "best.ckpt").write_bytes(b"half")
    last = Checkpoint.open(tmp_path / "before" / "last.ckpt")
    fit(Task().parts(), config(epochs=2), RUNTIME, tmp_path / "after", last)
    assert "not copied: " in caplog.text and "best.ckpt" in caplog.text
    assert not (tmp_path / "after" / "best.ckpt").exists()


def test_patience_needs_validations():
    with pytest.raises(UserError, match=r"train\.patience: needs validations \(got 3"):
        Session(Task().parts(evaluate=None), config(patience=3), RUNTIME)

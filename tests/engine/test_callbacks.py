"""What callbacks receive, beside the files that a training writes."""

import math

import pytest

from mindyolo_v4.engine.callbacks import Callback
from tests.support.runs import rows
from tests.support.tiny_task import RUNTIME, Task, config, fit

pytestmark = pytest.mark.usefixtures("graph_mode")


class Notes(Callback):
    """Keeps what it receives."""

    def __init__(self):
        self.calls = []

    def on_step(self, step, epoch, values):
        self.calls.append(("step", step, epoch, dict(values)))

    def on_epoch(self, step, epoch, values):
        self.calls.append(("epoch", step, epoch, dict(values)))

    def on_validation(self, step, epoch, metrics):
        self.calls.append(("validation", step, epoch, dict(metrics)))


class Silent(Callback):
    """Defines nothing."""


def test_callbacks_receive_what_the_files_record(tmp_path):
    notes = Notes()
    parts = Task(scores=(0.25, None)).parts(callbacks=(notes, Silent()))
    fit(parts, config(epochs=2, log_interval=2), RUNTIME, tmp_path)
    order = [(kind, step, epoch) for kind, step, epoch, _ in notes.calls]
    first = [*(("step", step, 1) for step in (1, 2, 3, 4)), ("epoch", 4, 1), ("validation", 4, 1)]
    assert order == [*first, *((kind, step + 4, 2) for kind, step, _ in first)]

    written = rows(tmp_path / "steps.csv")  # every second step
    steps = {step: values for kind, step, _, values in notes.calls if kind == "step"}
    assert list(steps[1]) == ["loss", "loss_box", "loss_obj", "loss_cls", "lr", "images_per_s"]
    for row in written:
        own = steps[int(row["step"])]
        assert own["loss"] == pytest.approx(float(row["loss"]), rel=1e-6)
        assert own["lr"] == float(row["lr"])

    losses = [values["loss"] for kind, *_, values in notes.calls if kind == "epoch"]
    assert losses[0] == pytest.approx(sum(steps[n]["loss"] for n in (1, 2, 3, 4)) / 4)
    metrics = [values["AP"] for kind, *_, values in notes.calls if kind == "validation"]
    assert metrics == [0.25, None]


def test_an_epoch_without_a_finite_step_has_no_mean_loss(tmp_path):
    notes = Notes()
    parts = Task(spoiled=(0, 1, 2, 3)).parts(callbacks=(notes,))
    fit(parts, config(epochs=1), RUNTIME, tmp_path)
    (loss,) = [values["loss"] for kind, *_, values in notes.calls if kind == "epoch"]
    assert math.isnan(loss)


def test_an_exception_of_a_callback_ends_the_training(tmp_path):
    class Broken(Callback):
        def on_epoch(self, step, epoch, values):
            raise ConnectionError("the tracker is gone")

    with pytest.raises(ConnectionError, match="the tracker is gone"):
        fit(Task().parts(callbacks=(Broken(),)), config(), RUNTIME, tmp_path)
    assert len(rows(tmp_path / "steps.csv")) == 4

"""The training loop on a tiny network: files, exact resume, divergence, stops."""

import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from mindspore import nn

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.checkpoint.run_folder import newest_valid
from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.recorder import TrainingDivergedError
from mindyolo_v4.errors import UserError
from tests.support.runs import rows, tensor_bytes
from tests.support.tiny import TinyNet, tiny_batch
from tests.support.tiny_task import RUNTIME, Task, config, fit

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_run_folder_after_two_epochs(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    task = Task(scores=(0.5, 0.25))
    result = fit(task.parts(), config(keep_checkpoints=1), RUNTIME, tmp_path)
    assert (
        result.state.step,
        result.state.epoch,
        result.stopped_by,
        result.state.nonfinite_steps,
    ) == (8, 2, "epochs", 0)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "steps.csv",
        "metrics.csv",
        "metrics.json",
        "last.ckpt",
        "best.ckpt",
        "epoch_0002.ckpt",
        "tensorboard",
    }
    steps = rows(tmp_path / "steps.csv")
    assert list(steps[0]) == [
        "step",
        "epoch",
        "loss",
        "loss_box",
        "loss_obj",
        "loss_cls",
        "lr",
        "images_per_s",
    ]
    assert [(row["step"], row["epoch"]) for row in steps] == [
        (str(n), str((n + 3) // 4)) for n in range(1, 9)
    ]
    for row in steps:
        parts = sum(float(row[name]) for name in ("loss_box", "loss_obj", "loss_cls"))
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-6)
        assert str(np.float32(row["loss"])) == row["loss"]
    assert [float(row["lr"]) for row in steps[:3]] == [0.0, 0.025, 0.05]
    assert float(steps[-1]["loss"]) < float(steps[0]["loss"])
    assert [(row["epoch"], row["step"], row["AP"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("1", "4", "0.5"),
        ("2", "8", "0.25"),
    ]
    best = json.loads((tmp_path / "metrics.json").read_text())
    assert (best["AP"], best["epoch"], best["step"]) == (0.5, 1, 4)
    assert best["train_seconds"] > 0
    assert Checkpoint.open(tmp_path / "best.ckpt").tree["training"]["step"] == 4
    assert Checkpoint.open(tmp_path / "last.ckpt").card.task == "detect"
    assert "compiling the training graph" in caplog.text
    assert "compiled in" in caplog.text
    assert "step 8/8 epoch 2/2 loss" in caplog.text
    means = [np.mean([float(row["loss"]) for row in steps[first : first + 4]]) for first in (0, 4)]
    told = re.findall(r"Epoch: \[(\d)\] Avg img/s: (\d+\.\d{3}) Loss: (\d+\.\d{4})", caplog.text)
    assert [int(epoch) for epoch, _, _ in told] == [1, 2]
    assert [float(loss) for _, _, loss in told] == pytest.approx(means, abs=1e-4)
    assert min(float(speed) for _, speed, _ in told) > 0


@pytest.mark.slow
def test_four_steps_equal_two_resume_two(tmp_path):
    """With EMA, accumulation, dynamic loss scale, clipping and a non-finite step: bit for bit."""
    settings = config(
        accumulate=2,
        ema=EmaConfig(0.9, 4.0),
        loss_scale="dynamic",
        clip_norm=1.0,
        epochs=1,
        checkpoint_interval=9,
    )
    whole, first, second = (Task(steps_per_epoch=8, spoiled=(3,)) for _ in range(3))
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    fit(whole.parts(), settings, RUNTIME, tmp_path / "whole")
    stopped = replace(settings, train=replace(settings.train, max_steps=2))
    result = fit(first.parts(), stopped, RUNTIME, tmp_path / "halves")
    assert (result.stopped_by, result.state.step, result.state.nonfinite_steps) == (
        "max_steps",
        2,
        1,
    )
    newest = newest_valid(tmp_path / "halves")
    result = fit(second.parts(), settings, RUNTIME, tmp_path / "halves", newest)
    assert (result.stopped_by, result.state.step, result.state.nonfinite_steps) == ("epochs", 4, 1)
    assert second.asked == [4, 5, 6, 7]
    index = Checkpoint.open(tmp_path / "whole" / "last.ckpt").index
    assert {name.split(".")[0] for name in index} == {
        "stem",
        "bn",
        "head",
        "ema",
        "optimizer",
        "scaler",
        "card",
    }
    held = [tensor_bytes(tmp_path / name / "last.ckpt") for name in ("whole", "halves")]
    assert held[0] == held[1]
    losses = [
        [row["loss"] for row in rows(tmp_path / name / "steps.csv")] for name in ("whole", "halves")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_left_over_micro_batches_are_passed_by(tmp_path):
    task = Task(steps_per_epoch=5)
    result = fit(task.parts(evaluate=None), config(accumulate=2), RUNTIME, tmp_path)
    assert result.state.step == 4
    assert task.asked == list(range(9))  # of which 4 was not used, and 9 not even drawn


def test_rows_behind_the_resumed_step_go(tmp_path):
    settings = config(epochs=3, checkpoint_interval=1)
    fit(Task().parts(), settings, RUNTIME, tmp_path)
    before = rows(tmp_path / "steps.csv")
    (tmp_path / "last.ckpt").write_bytes(b"")
    (tmp_path / "epoch_0003.ckpt").unlink()
    task = Task()
    fit(task.parts(), settings, RUNTIME, tmp_path, newest_valid(tmp_path))
    after = rows(tmp_path / "steps.csv")
    assert task.asked == [8, 9, 10, 11]
    assert [row["step"] for row in after] == [str(n) for n in range(1, 13)]
    assert [row["loss"] for row in after] == [row["loss"] for row in before]
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == ["1", "2", "3"]


def test_validation_sees_the_averages_and_gives_them_back(tmp_path):
    task = Task()
    fit(task.parts(), config(epochs=1, ema=EmaConfig(0.99, 1.0)), RUNTIME, tmp_path)
    live = named_parameters(task.network)["head.bias"].asnumpy()
    averaged = TinyNet(seed=5)
    last = Checkpoint.open(tmp_path / "last.ckpt")
    last.load_weights(averaged)
    assert np.array_equal(task.scored[0], averaged.head.bias.asnumpy())
    assert not np.array_equal(task.scored[0], live)
    assert np.array_equal(live, last.file.tensors()["head.bias"])


def test_divergence_stops_after_steps_in_a_row(tmp_path):
    task = Task(steps_per_epoch=8, spoiled=(1, 3, 4, 5))
    with pytest.raises(
        TrainingDivergedError,
        match=r"3 steps in a row.*the last one step 6.*optimizer\.lr.*clip_norm",
    ):
        fit(task.parts(), config(max_nonfinite=3), RUNTIME, tmp_path)
    assert len(rows(tmp_path / "steps.csv")) == 6


def test_one_non_finite_step_is_counted_and_survived(tmp_path, caplog):
    result = fit(Task(spoiled=(1,)).parts(), config(epochs=1, max_nonfinite=2), RUNTIME, tmp_path)
    assert (result.state.nonfinite_steps, result.state.step) == (1, 4)
    assert "step 2: loss" in caplog.text


def test_max_minutes_stops_at_an_epoch_end(tmp_path):
    task = Task()
    result = fit(task.parts(), config(epochs=50, max_minutes=1e-6), RUNTIME, tmp_path)
    assert (result.state.step, result.stopped_by) == (4, "max_minutes")
    assert len(task.scored) == 1


def test_val_interval_and_the_end(tmp_path):
    task = Task(steps_per_epoch=2)
    fit(task.parts(), config(epochs=5, val_interval=2, log_interval=2), RUNTIME, tmp_path)
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == ["2", "4", "5"]
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["2", "4", "6", "8", "10"]


def test_other_rank_writes_nothing(tmp_path):
    fit(Task().parts(), config(epochs=1), replace(RUNTIME, ranks=Ranks(rank=1)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_resume_refuses_another_training(tmp_path):
    fit(Task().parts(), config(epochs=1), RUNTIME, tmp_path)
    last = Checkpoint.open(tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"--resume: .*steps_per_epoch.*got 3, expected 4"):
        fit(Task(steps_per_epoch=3).parts(), config(epochs=1), RUNTIME, tmp_path, last)
    with pytest.raises(UserError, match=r"last.ckpt: does not continue this training.*ema\."):
        fit(Task().parts(), config(epochs=1, ema=EmaConfig(0.9)), RUNTIME, tmp_path, last)


def test_accumulation_longer_than_an_epoch(tmp_path):
    with pytest.raises(UserError, match=r"train.accumulate.*got 5, expected at most 4"):
        fit(Task().parts(), config(accumulate=5), RUNTIME, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_validation_changes_nothing_in_the_training(tmp_path, accumulate):
    """The averages go in and out of parameters that several compiled graphs share: all must see the
    same memory.
    """

    class Scored(Task):
        def evaluate(self, check):
            x, _ = tiny_batch(99)
            if not hasattr(self, "inference"):
                self.inference = Inference(self.network)
            self.seen.append(self.inference(x).asnumpy())
            return super().evaluate(check)

    settings = config(epochs=3, accumulate=accumulate, ema=EmaConfig(0.9, 4.0))
    held, seen = [], []
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        task = Scored(steps_per_epoch=4)
        task.seen = seen
        parts = task.parts() if name == "with" else task.parts(evaluate=None)
        fit(parts, settings, RUNTIME, tmp_path / name)
        held.append(tensor_bytes(tmp_path / name / "last.ckpt"))
    assert held[0] == held[1]
    assert len(seen) == 3
    averaged = TinyNet()
    Checkpoint.open(tmp_path / "without" / "last.ckpt").load_weights(averaged)
    averaged.set_train(False)
    np.testing.assert_allclose(seen[-1], averaged(tiny_batch(99)[0]).asnumpy(), atol=1e-6)


class Inference(nn.Cell):
    """A second compiled graph over the parameters of the network."""

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, x):
        return self.network(x)


def test_nothing_is_best_where_nothing_can_be_measured(tmp_path, caplog):
    """A validation split without boxes has no AP: no best.ckpt, no crash, also after a resume."""
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    settings = config(epochs=3)
    stopped = replace(settings, train=replace(settings.train, max_steps=8))
    fit(Task(scores=(None, None)).parts(), stopped, RUNTIME, tmp_path)
    assert "AP undefined: no ground truth" in caplog.text
    assert not (tmp_path / "best.ckpt").exists()
    assert [row["AP"] for row in rows(tmp_path / "metrics.csv")] == ["", ""]
    resumed = newest_valid(tmp_path)
    result = fit(Task(scores=(0.0,)).parts(), settings, RUNTIME, tmp_path, resumed)
    assert result.state.best["AP"] == 0.0
    assert (tmp_path / "best.ckpt").exists()
    assert [row["AP"] for row in rows(tmp_path / "metrics.csv")] == ["", "", "0.0"]


def test_the_result_says_why_the_training_ended(tmp_path):
    result = fit(Task(scores=(0.25,), spoiled=(1,)).parts(), config(epochs=1), RUNTIME, tmp_path)
    first, second = result.state.end_lines("AP", result.stopped_by)
    assert first.startswith("training ended by train.epochs at step 4, epoch 1, after 0.")
    assert first.endswith("steps that were not finite: 1")
    assert second == "best AP: 0.2500 (epoch 1, step 4)"

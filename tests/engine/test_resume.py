"""A training that ends inside an epoch goes on as if nothing had been: rows, metrics, epoch lines
and weights.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import ops

from mindyolo_v4.checkpoint.card import make_card
from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.checkpoint.run_folder import newest_valid, step_path
from mindyolo_v4.config.model import DropBlockConfig, ModelConfig
from mindyolo_v4.config.recipe import dump_config, record_to_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.plan import make_plan
from mindyolo_v4.engine.resume import (
    follow_epochs,
    follow_limit,
    saved_state,
    with_recorded_anchors,
)
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.drop_block import DropBlock
from mindyolo_v4.models.iteration_norm import CrossIterationNorm
from tests.support.runs import rows, tensor_bytes
from tests.support.tiny import TinyNet
from tests.support.tiny_task import RUNTIME, Task, config, fit

pytestmark = pytest.mark.usefixtures("graph_mode")
SETTINGS = {
    "accumulate": 2,
    "ema": EmaConfig(0.9, 4.0),
    "loss_scale": "dynamic",
    "clip_norm": 1.0,
    "epochs": 3,
}


class PowerCutError(Exception):
    """Stands for a process that ends at this point."""


class Cut(Task):
    """A task whose machine fails when a certain micro-batch is asked for."""

    def __init__(self, at: int, **options):
        super().__init__(**options)
        self.at = at

    def batches(self, start: int, stop: int):
        for number, batch in enumerate(super().batches(start, stop), start):
            if number == self.at:
                raise PowerCutError
            yield batch


def without_speed(path: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name != "images_per_s"} for row in rows(path)
    ]


def without_time(path: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name != "train_seconds"}
        for row in rows(path)
    ]


def epoch_lines(messages: list[str]) -> dict[str, str]:
    """Return the mean loss of each epoch that was told as ended."""
    return {line.split()[1]: line.split()[-1] for line in messages if line.startswith("Epoch")}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [7, 9, 13])
def test_a_cut_anywhere_in_an_epoch_changes_nothing(tmp_path, caplog, cut):
    """Three epochs of 4 steps of 2 micro-batches (one left over), a checkpoint every 3 steps; step
    5 is not finite.
    """
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    options = {"steps_per_epoch": 9, "spoiled": (9,)}
    settings = config(**SETTINGS, checkpoint_steps=3, val_interval=2, log_interval=1)
    scores = {4: 0.25, 8: 0.5, 12: 0.125}  # by step
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    fit(Task(**options, scores=(scores[8], scores[12])).parts(), settings, RUNTIME, whole)
    uncut = epoch_lines(caplog.messages)
    caplog.clear()
    with pytest.raises(PowerCutError):
        fit(Cut(cut, **options, scores=(scores[8], scores[12])).parts(), settings, RUNTIME, halves)
    newest = newest_valid(halves)
    stands = newest.tree["training"]["step"]
    done = cut // 9 * 4 + cut % 9 // 2
    assert stands == max(step for step in (3, 4, 6, 8, 9, 12) if step <= done)
    task = Task(
        **options,
        scores=tuple(score for step, score in scores.items() if step > stands and step != 4),
    )
    result = fit(task.parts(), settings, RUNTIME, halves, newest)
    assert (result.state.step, result.state.nonfinite_steps) == (12, 1)
    assert task.asked[0] == stands // 4 * 9 + stands % 4 * 2
    assert without_speed(whole / "steps.csv") == without_speed(halves / "steps.csv")
    assert [row["step"] for row in rows(halves / "steps.csv")] == [
        str(step) for step in range(1, 13)
    ]
    assert without_time(whole / "metrics.csv") == without_time(halves / "metrics.csv")
    assert [row["AP"] for row in rows(halves / "metrics.csv")] == ["0.5", "0.125"]
    assert epoch_lines(caplog.messages) == uncut
    for name in ("last.ckpt", "best.ckpt", "step_00000009.ckpt"):
        assert tensor_bytes(whole / name) == tensor_bytes(halves / name), name
    assert sorted(path.name for path in whole.iterdir()) == sorted(
        path.name for path in halves.iterdir()
    )


class Remembering(TinyNet):
    """The tiny network with layers that remember something between steps."""

    def __init__(self):
        super().__init__()
        self.bn = CrossIterationNorm(self.stem, 1e-5, 0.9)
        self.drop = DropBlock(DropBlockConfig(0.2, 2, 10))

    def construct(self, x):
        y = self.bn(self.stem(x), x, self.stem.weight)
        return self.head(self.drop(ops.relu(y)))


@pytest.mark.slow
def test_what_layers_remember_goes_on(tmp_path):
    """Four steps of 2 micro-batches; from the third on: windows of CBN and masks of DropBlock."""
    settings = config(accumulate=2, epochs=1, checkpoint_steps=3)
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    resumed = None
    for folder in (whole, rest):
        folder.mkdir()
        task = Task(8)
        task.network = Remembering()
        fit(task.parts(), settings, RUNTIME, folder, resumed)
        resumed = Checkpoint.open(step_path(whole, 3))
    assert task.asked == [6, 7]
    ends = [tensor_bytes(folder / "last.ckpt") for folder in (whole, rest)]
    assert ends[0] == ends[1]
    kept = {name for name in ends[0] if name.startswith("layers.")}
    assert kept == {
        *("layers.bn.run_slopes", "layers.bn.run_squares", "layers.bn.run_filled"),
        "layers.drop.run_passes",
    }
    assert np.frombuffer(ends[0]["layers.drop.run_passes"], np.int32).item() == 8

    # A network of plain layers takes the weights, and says nothing of the rest.
    plain = TinyNet()
    report = Checkpoint.open(whole / "last.ckpt").load_weights(plain)
    assert (report.missing, report.unexpected) == ((), ())


def test_a_checkpoint_of_before_these_fields_is_continued(tmp_path):
    """The sums of an epoch came later than the first checkpoints."""
    settings = config(epochs=2)
    stopped = replace(settings, train=replace(settings.train, max_steps=4))
    fit(Task().parts(), stopped, RUNTIME, tmp_path)
    last = tmp_path / "last.ckpt"
    card = Checkpoint.open(last).tree
    card["training"] = {
        name: value for name, value in card["training"].items() if not name.startswith("epoch_")
    }
    import mindspore as ms

    tensors = {
        name: value for name, value in ms.load_checkpoint(str(last)).items() if name != "card"
    }
    save(last, tensors, card)
    assert fit(Task().parts(), settings, RUNTIME, tmp_path, Checkpoint.open(last)).state.step == 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a function: steps per epoch -> the folder of a training with a checkpoint per step."""
    folders: dict[int, Path] = {}

    def train(per_epoch: int) -> Path:
        if per_epoch not in folders:
            folders[per_epoch] = tmp_path_factory.mktemp("finished")
            card = {"config": {"train": {"per_batch_size": 2, "accumulate": 1}}}
            settings = config(epochs=2, checkpoint_steps=1, keep_checkpoints=99)
            parts = Task(steps_per_epoch=per_epoch).parts(card=card)
            fit(parts, settings, RUNTIME, folders[per_epoch])
        return folders[per_epoch]

    return train


@pytest.mark.parametrize(
    ("per_epoch", "batch", "at", "step", "again"),
    [
        (8, 2, 3, 1, 2),
        (8, 2, 4, 2, 0),
        (8, 2, 9, 4, 2),
        (8, 1, 9, 9, 0),
        (9, 2, 7, 3, 2),
        (9, 2, 8, 4, 0),
    ],
)
def test_another_number_of_devices_goes_on_at_the_same_image(
    tmp_path, finished, per_epoch, batch, at, step, again
):
    """From 1 device x 2 images to 2 devices x `batch`: image 2 x `at` of the training is the next.

    Of 18 images, 9 steps, two devices x 2 leave two out: after 16 of them their epoch is over.
    """
    shutil.copytree(finished(per_epoch), tmp_path, dirs_exist_ok=True)
    saved = Checkpoint.open(step_path(tmp_path, at))
    runtime = replace(RUNTIME, ranks=Ranks(size=2))
    settings = config(epochs=2, per_batch_size=batch)
    parts = Task(steps_per_epoch=per_epoch // batch).parts()
    run = Session(parts, settings, runtime)
    lines = run.resume(saved)
    with run.recording(tmp_path):
        pass
    assert (run.state.step, run.state.steps_per_epoch, run.state.world_size) == (
        step,
        per_epoch // batch,
        2,
    )
    assert run.state.validation_due is (at == 8)
    last_row = [int(row["step"]) for row in rows(tmp_path / "steps.csv")][-1]
    assert last_row == at  # as the run that wrote the checkpoint counted
    assert f"; {again} images are repeated" in lines[0]
    with pytest.raises(UserError, match=r"--resume: .*epochs of another length"):
        Session(Task(steps_per_epoch=40).parts(), settings, runtime).resume(saved)


@pytest.mark.parametrize(
    "damage",
    [
        {"step": "many"},
        {"step": -1},
        {"steps_per_epoch": 0},
        {"world_size": None},
        {"train_seconds": [1]},
        {"best": {"AP": "high", "epoch": 1, "step": 4}},
        {"best": {"AP": 0.5}},
        {"best": 3},
    ],
)
def test_a_damaged_training_section_is_named(damage):
    training = {"step": 4, "steps_per_epoch": 4, "world_size": 1} | damage
    checkpoint = SimpleNamespace(path="last.ckpt", tree={"training": training})
    with pytest.raises(UserError, match=r"last\.ckpt: card\.training"):
        saved_state(checkpoint, "AP")


def test_a_training_section_that_is_no_mapping_is_named():
    with pytest.raises(UserError, match=r"last\.ckpt: card\.training"):
        saved_state(SimpleNamespace(path="last.ckpt", tree={"training": [4]}), "AP")


# ---------------------------------------------------------------- another number of epochs
def held(config: Config) -> SimpleNamespace:
    """Return what follow_epochs sees of a checkpoint that was trained with a configuration."""
    return SimpleNamespace(path="last.ckpt", card=make_card(config, ("a",), "test"))


@pytest.mark.parametrize("epochs", [3, 6])
def test_another_number_of_epochs_changes_the_whole_schedule(tmp_path, epochs, caplog):
    """From the second of four epochs on, rates and end are those of a training of `epochs`."""
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    four = config(epochs=4)
    stopped = replace(four, train=replace(four.train, max_steps=8))
    card = record_to_tree(make_card(four, (), "test"))
    fit(Task().parts(card=card), stopped, RUNTIME, tmp_path)
    told: list[int] = []
    parts = Task().parts(set_epochs=told.append, card=card)
    result = fit(parts, config(epochs=epochs), RUNTIME, tmp_path, newest_valid(tmp_path))
    assert (result.state.step, result.stopped_by, told) == (4 * epochs, "epochs", [epochs])

    rates = np.array([float(row["lr"]) for row in rows(tmp_path / "steps.csv")])
    wanted = make_plan(config(epochs=epochs), 4, epochs, 1).rates
    before = make_plan(four, 4, 4, 1).rates
    np.testing.assert_allclose(rates, [*before[:8], *wanted[8:]], rtol=1e-6)
    line = f"train.epochs 4 -> {epochs}: the schedule spans {epochs} epochs from here on; the "
    line += f"learning rate goes on at {wanted[8]:g} instead of {before[8]:g}"
    assert line in caplog.messages


def test_epochs_that_are_done_already_are_refused():
    checkpoint = held(config(epochs=9))
    state = TrainingState(step=10, steps_per_epoch=4)
    assert follow_epochs(checkpoint, state, config(epochs=9)) == []
    assert len(follow_epochs(checkpoint, state, config(epochs=3))) == 1
    match = r"train\.epochs: last\.ckpt has reached epoch 3 \(got 2, expected more, or 9"
    with pytest.raises(UserError, match=match):
        follow_epochs(checkpoint, state, config(epochs=2))


def test_epochs_beside_a_fitted_schedule_are_refused_or_replace_it():
    fitted = {"max_minutes": 60.0, "fit_schedule": True}
    checkpoint = held(config(epochs=50, **fitted))
    state = TrainingState(step=4, steps_per_epoch=4, epochs=5)
    assert follow_epochs(checkpoint, state, config(epochs=50, **fitted)) == []
    with pytest.raises(UserError, match=r"has set the number: 5 of at most 50 \(got 40"):
        follow_epochs(checkpoint, state, config(epochs=40, **fitted))
    assert state.epochs == 5
    (line,) = follow_epochs(checkpoint, state, config(epochs=40))
    assert line.startswith("train.epochs 5 -> 40: the schedule spans 40 epochs")
    assert state.epochs == 0


def test_another_time_fits_a_schedule_again():
    def fitted(epoch: int, **changes: float) -> TrainingState:
        values = {"train_seconds": 600.0, "epochs": 5, "fitted_minutes": 60.0} | changes
        return TrainingState(step=4 * epoch, steps_per_epoch=4, **values)

    def lines(state: TrainingState, minutes: float = 90.0) -> list[str]:
        settings = config(epochs=8, max_minutes=minutes, fit_schedule=True).train
        return follow_limit(checkpoint, state, settings)

    checkpoint = held(config(epochs=8, max_minutes=60.0, fit_schedule=True))
    assert lines(fitted(2), 60.0) == []
    (line,) = lines(fitted(2))
    expected = "train.max_minutes 60 -> 90: the schedule of 5 epochs is fitted again"
    assert line.startswith(expected)
    complete = fitted(5)
    assert len(lines(complete)) == 1
    assert complete.epochs == 6  # one more, to measure it
    assert lines(fitted(8, epochs=8)) == []  # train.epochs are done

    match = r"train\.max_minutes: last\.ckpt has been trained for 10\.0 minutes \(got 9"
    with pytest.raises(UserError, match=match):
        lines(fitted(2), 9.0)


# ---------------------------------------------------------------- fitted anchors
FITTED = tuple((float(10 * number), 20.0) for number in range(1, 10))


def test_a_continued_training_reads_the_anchors_that_were_fitted(tmp_path):
    """Of a folder from its config.yaml, of a checkpoint from its card; without a run they stay."""
    auto = Config(save_dir=str(tmp_path), model=ModelConfig(anchors_wh_px="auto"))
    assert with_recorded_anchors(auto, None, True, "mine") == auto
    fitted = replace(auto, model=ModelConfig(anchors_wh_px=FITTED))
    (tmp_path / "config.yaml").write_text(dump_config(fitted))
    assert with_recorded_anchors(auto, None, True, "mine") == fitted

    card = make_card(fitted, ("a",), "test")
    save(tmp_path / "x.ckpt", {}, record_to_tree(card))
    assert (
        with_recorded_anchors(auto, Checkpoint.open(tmp_path / "x.ckpt"), False, "mine") == fitted
    )
    assert with_recorded_anchors(Config(), None, True, "mine") == Config()

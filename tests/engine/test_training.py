"""Training of a made-up task: the run folder, what the log says first and last, what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.recipe import build_config, load_config
from mindyolo_v4.engine.callbacks import Callback
from mindyolo_v4.engine.training import train
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.files import read_json
from tests.support.fake_task import FAKE_TASK, FakeSplit
from tests.support.runs import rows
from tests.support.tiny_task import RUNTIME

pytestmark = pytest.mark.usefixtures("graph_mode")


def run(folder, resume=None, callbacks=(), task=FAKE_TASK, **settings) -> Path:
    tree = {
        "save_dir": str(folder) if folder else None,
        "data": {"val": "val"},
        "train": {"epochs": 2, "per_batch_size": 2} | settings,
    }
    config = build_config(tree)
    return train(task, config, tree, RUNTIME, "fake", resume, callbacks=callbacks)


def test_a_run_folder_and_its_log(tmp_path):
    folder = tmp_path / "run"
    assert run(folder) == folder
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "train.log", "results.png", "best.ckpt", "last.ckpt"} <= names
    assert "run.lock" not in names
    assert load_config(folder / "config.yaml").data.names == ["cat", "dog"]
    assert json.loads((folder / "metrics.json").read_text())["AP"] == 0.5
    assert Checkpoint.open(folder / "best.ckpt").card.class_names == ("cat", "dog")

    log = (folder / "train.log").read_text()
    for line in (
        "fake set: 8 images",
        "a tiny network",
        "an estimate for 8 images",
        "warning 9",
        "and 2 more warnings of fake",
    ):
        assert line in log
    assert "warning 10" not in log
    assert log.count("WARNING warning 0") == 2  # of the training and of the validation split
    last = log.index("training ended by train.epochs at step 8, epoch 2")
    assert last < log.index("best AP: 0.5000 (epoch 1, step 4)") < log.index("peak memory")
    assert "a.jpg: could not be decoded (2 times)" in log
    assert "3 boxes exceeded data.max_truths" in log


def test_a_run_is_continued_and_changed_settings_are_named(tmp_path):
    folder = tmp_path / "run"
    run(folder, max_steps=4)
    with pytest.raises(UserError, match=r"--save_dir: is not empty.*--resume"):
        run(folder)
    assert run(folder, resume="auto", clip_norm=10.0) == folder
    log = (folder / "train.log").read_text()
    assert "train.clip_norm: None -> 10.0" in log
    assert "resumed from" in log
    assert Checkpoint.open(folder / "last.ckpt").tree["training"]["step"] == 8


def test_a_run_that_was_killed_while_it_drew_the_labels_is_resumed(tmp_path):
    def killed(*_):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(folder, task=replace(FAKE_TASK, draw_labels=killed), pictures=1)
    assert read_json(folder / "run.json")["end"] is None
    assert run(folder, resume="auto", pictures=1) == folder
    assert Checkpoint.open(folder / "last.ckpt").tree["training"]["step"] == 8
    assert "has no checkpoint yet" in (folder / "train.log").read_text()
    assert [earlier["end"] for earlier in read_json(folder / "run.json")["earlier"]] == [None]


def test_self_adversarial_steps_train_on_the_task_s_own_images(tmp_path):
    run(tmp_path / "plain")
    run(tmp_path / "altered", sat_prob=0.5)
    log = (tmp_path / "altered" / "train.log").read_text()
    assert ": 2 graphs" in log
    assert re.search(r"images altered in [1-7] of 8 steps", log)
    plain, altered = (rows(tmp_path / name / "steps.csv") for name in ("plain", "altered"))
    assert plain[0]["loss"] == altered[0]["loss"]  # nothing is altered at progress 0
    assert plain[-1]["loss"] != altered[-1]["loss"]


@pytest.mark.parametrize("settings", [{"accumulate": 9}, {"freeze": ["nothing."]}])
def test_nothing_is_written_before_all_is_right(tmp_path, settings):
    with pytest.raises(UserError, match=r"train\."):
        run(tmp_path / "run", **settings)
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_is_no_square_is_refused_before_data_are_read(tmp_path):
    tree = {"save_dir": str(tmp_path / "run"), "data": {"img_size": 64, "img_height": 32}}
    task = replace(FAKE_TASK, read=lambda data, split: pytest.fail("reads the data set"))
    problem = r"data\.img_height: training takes square inputs only \(got 32"
    with pytest.raises(UserError, match=problem):
        train(task, build_config(tree), tree, RUNTIME, "fake")
    assert list(tmp_path.iterdir()) == []


class OtherSplit(FakeSplit):
    class_names = ("dog", "cat")
    source = "other set"


@pytest.mark.parametrize("given", [None, "names.yaml"])
def test_a_validation_split_is_read_with_the_classes_of_the_training(tmp_path, given):
    names = {}

    def read(data, split):
        names[split] = data.names
        return FakeSplit() if split == "train" else OtherSplit()

    tree = {"save_dir": str(tmp_path / "run"), "data": {"val": "val", "names": given}}
    task = replace(FAKE_TASK, read=read)
    problem = "fake set: its 2 class names are not the 2 of other set"
    with pytest.raises(UserError, match=f"{problem}.*got class 0 'dog', expected class 0 'cat'"):
        train(task, build_config(tree), tree, RUNTIME, "fake")
    assert names == {"train": given, "val": given or ["cat", "dog"]}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by_name", [True, False])
def test_classes_in_another_order_are_not_resumed(tmp_path, monkeypatch, by_name):
    folder = tmp_path / "run"
    run(folder, max_steps=4)
    before = (folder / "config.yaml").read_bytes()
    monkeypatch.setattr(FakeSplit, "class_names", ("dog", "cat"))
    resume = str(folder / "last.ckpt") if by_name else "auto"
    with pytest.raises(
        UserError, match=r"last\.ckpt: its 2 class names are not the 2 of this training"
    ):
        run(folder, resume=resume)
    assert (folder / "config.yaml").read_bytes() == before
    assert not (folder / "run.lock").exists()


def test_a_refused_checkpoint_leaves_no_folder(tmp_path):
    run(tmp_path / "run", max_steps=4)
    with pytest.raises(UserError, match=r"last\.ckpt: does not continue this training"):
        run(tmp_path / "new", resume=str(tmp_path / "run/last.ckpt"), ema={"decay": 0.9})
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_is_resumed_in_a_new_folder(tmp_path):
    run(tmp_path / "run", max_steps=4)
    assert run(tmp_path / "new", resume=str(tmp_path / "run/last.ckpt")) == tmp_path / "new"
    assert "resumed from" in (tmp_path / "new/train.log").read_text()
    assert Checkpoint.open(tmp_path / "new/last.ckpt").tree["training"]["step"] == 8


def test_a_checkpoint_by_name_leaves_other_runs_as_they_are(tmp_path, monkeypatch):
    """Neither the run that wrote it nor the latest one loses rows, checkpoints or records."""
    monkeypatch.chdir(tmp_path)
    first = run(None, checkpoint_interval=1, keep_checkpoints=1)
    latest = run(None, max_steps=4)
    before = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/*")}
    with pytest.raises(UserError, match=r"--save_dir: is not empty.*--resume without PATH"):
        run(first, resume=str(first / "best.ckpt"))
    continued = run(None, resume=str(latest / "last.ckpt"))
    assert continued == Path("runs/fake-3")
    assert [row["step"] for row in rows(continued / "steps.csv")] == ["5", "6", "7", "8"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_records_its_start_and_its_end(tmp_path):
    folder = run(tmp_path / "run", max_steps=4)
    first = read_json(folder / "run.json")
    assert first["device"]["target"] == "CPU"
    assert first["seed"] == 2
    end = {"stopped_by": "max_steps", "step": 4, "epoch": 1, "nonfinite_steps": 0}
    assert first["end"].items() >= end.items()
    run(folder, resume="auto")
    second = read_json(folder / "run.json")
    assert (second["end"]["stopped_by"], second["end"]["step"]) == ("epochs", 8)
    assert [earlier["end"]["step"] for earlier in second["earlier"]] == [4]


class Ended(Callback):
    """Keeps what it receives at the end."""

    def __init__(self):
        self.ends = []

    def on_end(self, step, epoch, values):
        self.ends.append((step, epoch, values))


def test_callbacks_receive_the_end_of_a_complete_training_only(tmp_path):
    callback = Ended()
    folder = run(tmp_path / "run", callbacks=[callback])
    ((step, epoch, values),) = callback.ends
    assert (step, epoch, values["folder"], values["stopped_by"]) == (8, 2, folder, "epochs")
    assert (values["best"]["AP"], values["best"]["epoch"]) == (0.5, 1)
    recorded = read_json(folder / "run.json")["end"]
    assert values.items() >= {name: recorded[name] for name in ("step", "train_seconds")}.items()

    callback.ends.clear()
    with pytest.raises(UserError):
        run(tmp_path / "other", callbacks=[callback], accumulate=9)
    assert callback.ends == []


def test_a_failed_allocation_is_one_error(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("Malloc failed, size 1099511627776")

    monkeypatch.setattr("mindyolo_v4.engine.training.fit", fail)
    with pytest.raises(UserError, match=r"memory: an allocation failed: lower train\.per_batch"):
        run(tmp_path / "run")
    assert not (tmp_path / "run/run.lock").exists()

"""Scoring a checkpoint of a made-up task: the files, the log, and classes that do not fit."""

import json
from types import SimpleNamespace

import pytest

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.engine import testing
from mindyolo_v4.errors import UserError
from tests.support.fake_task import FAKE_TASK, FakeSplit
from tests.support.tiny import TinyNet
from tests.support.tiny_task import RUNTIME

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.fixture
def score(monkeypatch, tmp_path):
    """Return a function that scores a checkpoint with these class names."""
    monkeypatch.setattr(testing, "load_network", lambda checkpoint, task: TinyNet())
    monkeypatch.setattr(testing, "setup_logger", lambda *_: None)

    def run(class_names, **options) -> int:
        card = Card(class_names=class_names)
        path = tmp_path / "best.ckpt"
        checkpoint = SimpleNamespace(path=path, card=card, require=lambda *_, **__: None)
        overrides = {"save_dir": str(tmp_path / "test")}
        return testing.test(FAKE_TASK, checkpoint, {}, overrides, RUNTIME, **options)

    return run


def test_metrics_and_the_files_of_the_task_are_written(score, tmp_path, caplog):
    caplog.set_level("INFO", logger="mindyolo_v4")
    assert score(FakeSplit.class_names) == 0
    assert json.loads((tmp_path / "test/metrics.json").read_text()) == {"AP": 0.5, "images": 8}
    assert json.loads((tmp_path / "test/predictions.json").read_text()) == []
    assert "best.ckpt: 8 images of fake set" in caplog.text
    assert "warning 0" in caplog.text
    assert caplog.messages[-1] == f"AP 0.5\nwritten to {tmp_path / 'test'}"


def test_a_folder_with_files_needs_permission(score):
    score(FakeSplit.class_names)
    with pytest.raises(UserError, match=r"--save_dir: is not empty.*--exist_ok"):
        score(FakeSplit.class_names)
    assert score(FakeSplit.class_names, exist_ok=True) == 0


def test_classes_must_be_those_of_the_checkpoint(score):
    with pytest.raises(UserError, match=r"data\.names: not the classes of the checkpoint"):
        score(("dog", "cat"))

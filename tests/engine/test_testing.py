"""Scoring a checkpoint of a made-up task: the files, the log, and classes that do not fit."""

import json
import signal
from types import SimpleNamespace

import pytest

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine import testing
from mindyolo_v4.errors import StoppedError, UserError
from mindyolo_v4.runtime import scoring_run
from mindyolo_v4.runtime.signals import StopSignals
from tests.support.fake_task import FAKE_TASK, FakeEvalStream, FakeSplit
from tests.support.tiny import TinyNet
from tests.support.tiny_task import RUNTIME

pytestmark = pytest.mark.usefixtures("graph_mode")


@pytest.fixture
def score(monkeypatch, tmp_path):
    """Return a function that scores a checkpoint with these class names."""
    monkeypatch.setattr(testing, "load_network", lambda checkpoint, task: TinyNet())
    monkeypatch.setattr(scoring_run, "setup_logger", lambda *_: None)

    def run(class_names, **options) -> int:
        card = Card(class_names=class_names)
        path = tmp_path / "best.ckpt"
        checkpoint = SimpleNamespace(path=path, card=card, require=lambda *_, **__: None)
        config = Config(save_dir=str(tmp_path / "test"))
        return testing.test(FAKE_TASK, checkpoint, config, RUNTIME, **options)

    return run


def test_metrics_and_the_files_of_the_task_are_written(score, tmp_path, caplog):
    caplog.set_level("INFO", logger="mindyolo_v4")
    assert score(FakeSplit.class_names) == 0
    metrics = json.loads((tmp_path / "test/metrics.json").read_text())
    assert metrics == {"AP": 0.5, "images": 8, "unreadable": 0, "read_ms": 0.0, "network_ms": 0.0}
    assert json.loads((tmp_path / "test/predictions.json").read_text()) == []
    record = json.loads((tmp_path / "test/run.json").read_text())
    assert record["end"]["images"] == 8
    assert record["end"]["test_seconds"] >= 0.0
    assert (record["device"]["target"], record["earlier"]) == ("CPU", [])
    assert "best.ckpt: 8 images of fake set" in caplog.text
    assert "warning 0" in caplog.text
    assert caplog.messages[-1] == f"AP 0.5\nwritten to {tmp_path / 'test'}"


def test_a_folder_with_files_needs_permission(score, tmp_path):
    score(FakeSplit.class_names)
    with pytest.raises(UserError, match=r"--save_dir: is not empty.*--exist_ok"):
        score(FakeSplit.class_names)
    assert score(FakeSplit.class_names, exist_ok=True) == 0
    record = json.loads((tmp_path / "test/run.json").read_text())
    assert [earlier["end"]["images"] for earlier in record["earlier"]] == [8]


def test_images_that_could_not_be_read_are_counted_and_named(score, tmp_path, caplog, monkeypatch):
    paths = tuple(f"{number}.jpg" for number in range(12))
    monkeypatch.setattr(FakeEvalStream, "unreadable", paths)
    wrong = "12 of 8 images could not be read and were scored as plain grey"
    with pytest.raises(UserError, match=f"fake set: {wrong} .expected --allow_unreadable"):
        score(FakeSplit.class_names)
    assert caplog.messages[-1] == wrong
    assert "9.jpg: could not be decoded" in caplog.text
    assert "10.jpg: could not be decoded" not in caplog.text
    assert "... and 2 more images" in caplog.messages
    assert json.loads((tmp_path / "test/metrics.json").read_text())["unreadable"] == 12
    assert (tmp_path / "test/predictions.json").exists()
    assert score(FakeSplit.class_names, exist_ok=True, allow_unreadable=True) == 0


def test_a_signal_ends_it_without_results(score, tmp_path, caplog, monkeypatch):
    signals = StopSignals()
    monkeypatch.setattr(
        FakeEvalStream,
        "batches",
        lambda self: (signals.note(number) or (None, None) for number in [signal.SIGINT]),
    )
    with pytest.raises(StoppedError):
        score(FakeSplit.class_names, signals=signals)
    assert caplog.messages[-1] == "stopped by SIGINT before all images were scored: no results"
    assert [path.name for path in (tmp_path / "test").iterdir()] == ["run.json"]
    assert json.loads((tmp_path / "test/run.json").read_text())["end"] is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("dog", "cat"), r"got class 0 'cat', expected class 0 'dog'"),
        (("cat", "dog", "cow"), r"its 3 class names.*got class 2 absent, expected class 2 'cow'"),
        (("cat",), r"got class 1 'dog', expected class 1 absent"),
    ],
)
def test_classes_must_be_those_of_the_checkpoint(score, names, said):
    with pytest.raises(UserError, match=said) as error:
        score(names)
    assert error.value.subject.endswith("best.ckpt")
    assert "fake set" in error.value.problem

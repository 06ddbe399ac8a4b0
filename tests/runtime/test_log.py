"""The log of a command: the console, the file in its run folder, a file per rank."""

import logging

import pytest

from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.runtime import log
from mindyolo_v4.runtime.log import setup_logger

LOOP = logging.getLogger("mindyolo_v4.engine.loop")


@pytest.fixture(autouse=True)
def no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.environment, "prepare", lambda: ())


def test_logger_writes_file_and_console(tmp_path, capsys, monkeypatch):
    setup_logger(tmp_path, "train.log", Ranks())
    setup_logger(tmp_path, "train.log", Ranks())  # a second time doubles nothing
    LOOP.info("hello")
    assert capsys.readouterr().err == "hello\n"
    assert (tmp_path / "train.log").read_text().count("INFO hello") == 1
    monkeypatch.setattr(log.environment, "prepare", lambda: ("AVX2 was set",))
    setup_logger(tmp_path, "train.log", Ranks())
    assert capsys.readouterr().err == "AVX2 was set\n"


def test_each_of_several_ranks_has_its_log(tmp_path, capsys):
    for rank in (0, 1):
        setup_logger(tmp_path / "run", "train.log", Ranks(rank, 2))
        LOOP.info("step of %d", rank)
        LOOP.warning("warning of %d", rank)
    texts = {path.name: path.read_text() for path in (tmp_path / "run").iterdir()}
    assert sorted(texts) == ["rank_0.log", "rank_1.log", "train.log"]
    assert texts["train.log"] == texts["rank_0.log"]
    assert "INFO step of 1\n" in texts["rank_1.log"]
    assert capsys.readouterr().err == "step of 0\nwarning of 0\nwarning of 1\n"


def test_a_full_disk_leaves_the_console(tmp_path, capsys):
    (tmp_path / "full").symlink_to("/dev/full")
    setup_logger(tmp_path, "full", Ranks())
    LOOP.info("hello")
    assert capsys.readouterr().err == "hello\n"


def test_control_characters_of_names_are_escaped(tmp_path, capsys):
    setup_logger(tmp_path, "train.log", Ranks())
    LOOP.info("%s\n%s", "\x1b[31mcat\r\x9b", "b\udcff.jpg")
    text = "\\x1b[31mcat\\r\\x9b\nb\\udcff.jpg\n"
    assert capsys.readouterr().err == text
    assert (tmp_path / "train.log").read_text().endswith(text)

"""The progress line on a terminal and in a log."""

import io
import logging
import sys

import numpy as np
import pytest

from mindyolo_v4.engine.progress import Progress

VALUES = np.array([1.5, 1.0, 0.5], np.float32)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    return caplog


def test_bar_on_a_terminal(info, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(("loss_box", "loss_obj"), 2, 4, 7) as progress:
        progress.restart_clock()
        progress.step(3, 1, VALUES, 0.01, 12.34)
        progress.step(4, 2, VALUES, 0.01, 12.34)
    assert "epoch 2/7 loss 1.5 box 1 obj 0.5 lr 0.01 12.3 images/s, step 4/4" in screen.getvalue()
    assert info.records == []


def test_log_lines_elsewhere_every_interval_and_at_the_end(info):
    with Progress(("loss_box", "loss_obj"), 0, 4, 1, interval_s=1000.0) as progress:
        for step in (1, 2, 3):
            progress.step(step, 1, VALUES, 0.01, 12.34)
        assert info.records == []
        progress.step(4, 1, VALUES, 0.01, 12.34)
    assert [record.getMessage() for record in info.records] == [
        "step 4/4 epoch 1/1 loss 1.5 box 1 obj 0.5 lr 0.01 12.3 images/s, 0:00:00 left"
    ]

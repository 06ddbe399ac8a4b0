"""One pass over a split: outputs on the host, the check between batches, the time per image."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.scoring import ScoringPass, eval_batch_size
from mindyolo_v4.errors import StoppedError
from tests.support.tiny_task import RUNTIME


class Batches:
    """Three batches of two images, the last one with padding."""

    def __init__(self):
        self.is_closed = False

    def __len__(self):
        return 5

    def batches(self):
        try:
            for first in (0, 2, 4):
                yield (
                    Tensor(np.full((2, 1), first, np.float32)),
                    np.arange(first, min(first + 2, 5)),
                )
        finally:
            self.is_closed = True

    def report(self):
        return {"unreadable": {"a.jpg": 1}}


def one_pass(check=lambda: None, forward=lambda images: images * 2.0) -> ScoringPass:
    return ScoringPass(forward, Batches(), 5, RUNTIME, check, show_bar=False)


def test_outputs_come_with_the_images_that_they_are_of():
    scoring = one_pass()
    outputs = list(scoring.outputs())
    assert [indices.tolist() for _, indices in outputs] == [[0, 1], [2, 3], [4]]
    assert [levels[0].tolist() for levels, _ in outputs] == [[[0.0]] * 2, [[4.0]] * 2, [[8.0]] * 2]
    assert set(scoring.ms_per_image()) == {"read_ms", "network_ms"}
    assert min(scoring.ms_per_image().values()) > 0


def test_a_signal_ends_the_pass_between_two_batches():
    calls = []

    def check():
        calls.append(None)
        if len(calls) == 2:
            raise StoppedError(signal.SIGTERM)

    scoring = one_pass(check)
    with pytest.raises(StoppedError):
        list(scoring.outputs())
    assert len(calls) == 2
    assert scoring.stream.is_closed


def test_time_per_image_is_of_the_images_of_this_device():
    scoring = one_pass()
    scoring.runtime = replace(RUNTIME, ranks=Ranks(1, 2))  # images 1 and 3
    scoring.spent_ms = {"read_ms": 4.0, "network_ms": 6.0, "nms_ms": 1.0}
    assert scoring.ms_per_image() == {"read_ms": 2.0, "network_ms": 3.0, "nms_ms": 0.5}


def test_the_heartbeat_counts_each_batch_once_and_expects_each_graph(monkeypatch):
    heartbeat = Heartbeat()
    reports = []
    monkeypatch.setattr(heartbeat, "_report", lambda **facts: reports.append(facts["doing"]))
    scoring = one_pass()
    scoring.runtime = replace(RUNTIME, heartbeat=heartbeat)
    sizes = (2, 3, 2, 3)
    scoring.stream.batches = lambda: (
        batch
        for batch in [(Tensor(np.ones((size, 1), np.float32)), np.arange(1)) for size in sizes]
    )
    assert len(list(scoring.outputs())) == 4
    compiled = ["compiling", "validation"]
    assert reports == ["validation", *compiled, *compiled, "validation", "validation", "training"]


@pytest.mark.parametrize(
    ("own", "images", "size", "expected"), [(None, 100, 1, 8), (4, 100, 1, 4), (None, 9, 2, 5)]
)
def test_batches_are_no_larger_than_a_device_has_images(own, images, size, expected):
    config = Config(
        train=TrainConfig(per_batch_size=8), evaluate=EvaluateConfig(per_batch_size=own)
    )
    assert eval_batch_size(config, images, replace(RUNTIME, ranks=Ranks(0, size))) == expected

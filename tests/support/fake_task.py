"""A task over the tiny network, for tests of training and testing without images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops

from mindyolo_v4.data.records import WarningLines
from mindyolo_v4.engine.scoring import ScoringPass
from mindyolo_v4.engine.task import Scores, Task
from tests.support.tiny import TinyForward, TinyNet, tiny_batch


class FakeSplit(WarningLines):
    """A split of eight images with twelve warnings."""

    class_names = ("cat", "dog")
    source = "fake set"
    warnings = tuple(f"warning {number}" for number in range(12))

    def __len__(self) -> int:
        return 8

    def summary(self) -> str:
        return "fake set: 8 images"


class FakeStream:
    steps_per_epoch = 4

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, ...]]:
        yield from (tiny_batch(number) for number in range(start, stop))

    def set_epochs(self, epochs: int) -> None:
        pass

    def report(self) -> dict[str, Any]:
        return {"unreadable": {"a.jpg": 2}, "truths_dropped": 3}


class FakeEvalStream:
    """No batch; `unreadable` images of the split cannot be read."""

    unreadable: tuple[str, ...] = ()

    def __init__(self, *_: object):
        pass

    def __len__(self) -> int:
        return 0

    def batches(self) -> Iterator[tuple[Tensor, np.ndarray]]:
        yield from ()

    def report(self) -> dict[str, Any]:
        return {"unreadable": dict.fromkeys(self.unreadable, 1)}


class Magnitude(nn.Cell):
    """The sum of magnitudes, as a loss that hides what a network sees."""

    def construct(self, output: Tensor) -> Tensor:
        return ops.abs(output).sum()


def score(config: object, split: object, one_pass: ScoringPass, for_test: bool) -> Scores:
    assert list(one_pass.outputs()) == []
    files = {"predictions.json": []} if for_test else {}
    return Scores({"AP": 0.5, "images": 8}, "AP 0.5", files)


def draw_curves(folder: Path, png: Path) -> None:
    png.write_bytes(b"png")


FAKE_TASK = Task(
    name="detect",
    best_metric="AP",
    read=lambda data, split: FakeSplit(),
    complete=lambda config, split, ranks: (config, ()),
    check=None,
    build=lambda model, classes, seed: TinyNet(seed),
    describe=lambda config, network: ["a tiny network"],
    estimate=lambda config, network, images: f"an estimate for {images} images",
    stream=lambda config, split, ranks: FakeStream(),
    forward=lambda config, network, classes: TinyForward(network),
    hiding=lambda config: Magnitude(),
    inference=lambda config, network: network,
    eval_stream=FakeEvalStream,
    score=score,
    validation_loss=lambda config, classes: None,
    draw_labels=lambda split, png: draw_curves(png.parent, png),
    draw_batch=lambda columns, names, path: draw_curves(path.parent, path),
    draw_curves=draw_curves,
)

"""A task over the tiny network, for tests of training and testing without images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mindspore import Tensor, nn

from mindyolo_v4.data.records import WarningLines
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

    def report(self) -> dict[str, Any]:
        return {"unreadable": {"a.jpg": 2}, "truths_dropped": 3}


def scorer(config: object, network: nn.Cell, *_: object) -> Callable[..., Scores]:
    def score(check: Callable[[], None], for_test: bool) -> Scores:
        check()
        files = {"predictions.json": []} if for_test else {}
        return Scores({"AP": 0.5, "images": 8}, "AP 0.5", files)

    return score


def draw_curves(folder: Path) -> None:
    (folder / "results.png").write_bytes(b"png")


FAKE_TASK = Task(
    name="detect",
    best_metric="AP",
    read=lambda data, split: FakeSplit(),
    build=lambda model, classes, seed: TinyNet(seed),
    describe=lambda config, network: ["a tiny network"],
    stream=lambda config, split, ranks: FakeStream(),
    forward=lambda config, network, classes: TinyForward(network),
    scorer=scorer,
    draw_curves=draw_curves,
)

"""Requests that wait become batches."""

import asyncio
from collections.abc import Iterable, Iterator

import cv2
import pytest

from mindyolo_v4.data.images import ImageReadError
from mindyolo_v4.deploy.prediction import Named, Prediction
from mindyolo_v4.serve.batching import Batcher, parts
from tests.support.service import StandIn, scene


def predict_all(stand_in: StandIn, uploads: list[bytes], largest: int = 4) -> list[object]:
    async def run() -> list[object]:
        batcher = Batcher(stand_in, largest, lambda _: None)
        first = asyncio.create_task(batcher.predict("first", uploads[0]))
        await asyncio.sleep(0.02)  # the network is busy with it
        rest = [batcher.predict(f"{n}", upload) for n, upload in enumerate(uploads[1:], 1)]
        return await asyncio.gather(first, *rest, return_exceptions=True)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("count", "largest", "sizes"),
    [(0, 4, []), (1, 4, [1]), (3, 4, [2, 1]), (11, 4, [4, 4, 2, 1]), (7, 6, [4, 2, 1])],
)
def test_sizes_of_batches(count: int, largest: int, sizes: list[int]) -> None:
    assert [size for _, size in parts(count, largest)] == sizes
    assert [first for first, _ in parts(count, largest)] == [
        sum(sizes[:number]) for number in range(len(sizes))
    ]


def test_what_waits_is_one_batch() -> None:
    stand_in = StandIn(delay_s=0.1)
    answers = predict_all(stand_in, [scene()] * 7)
    assert stand_in.batches == [1, 4, 2]
    assert [answer.file for answer in answers] == ["first", *"123456"]


def test_an_image_that_cannot_be_read_fails_alone() -> None:
    stand_in = StandIn(delay_s=0.1)
    answers = predict_all(stand_in, [scene(), scene(), b"<html>", b"", scene()])
    assert stand_in.batches == [1, 2]
    assert [type(answer) for answer in answers] == [
        *(Prediction, Prediction, ImageReadError, ImageReadError, Prediction)
    ]
    assert str(answers[2]) == "2: cannot be read as an image"


class Refusing(StandIn):
    """OpenCV refuses the image called 2; the network fails at the one called 5."""

    def stream(self, images: Iterable[Named], batch_size: int = 1) -> Iterator[Prediction]:
        batch = list(images)
        names = [name for name, _ in batch]
        if "5" in names:
            raise RuntimeError("the network fails")
        if "2" in names:
            refusal = cv2.error("")
            refusal.err = "refused"
            raise refusal
        return super().stream(batch, batch_size)


def test_an_image_that_opencv_refuses_fails_alone() -> None:
    answers = predict_all(Refusing(delay_s=0.1), [scene()] * 4)
    assert [isinstance(answer, Prediction) for answer in answers] == [True, True, False, True]
    assert str(answers[2]) == "2: refused"


def test_a_failure_of_the_network_ends_its_batch_only() -> None:
    answers = predict_all(Refusing(delay_s=0.1), [scene()] * 7, largest=1)
    failed = [number for number, answer in enumerate(answers) if isinstance(answer, RuntimeError)]
    assert failed == [5]
    assert isinstance(answers[6], Prediction)

"""Requests that wait -> batches for the network, in one thread."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import Image, ImageReadError, decode_image
from mindyolo_v4.deploy.prediction import Named, Prediction


class ImagePredictor(Protocol):
    """What the service needs of a `Predictor`, some of whose back-ends load MindSpore."""

    card: Card
    config: Config

    def stream(self, images: Iterable[Named], batch_size: int = 1) -> Iterator[Prediction]:
        """Yield the prediction of each image, in order."""


@dataclass(eq=False)
class _Job:
    """One image of a request."""

    name: str
    encoded: bytes
    result: asyncio.Future[Prediction]


class Batcher:
    """Predicts the images of several requests at once.

    While the network runs, requests wait; those that wait then form the next batch. Nothing is
    waited for when the network is free. A thread of its own decodes and predicts, so that at most
    `largest` images are decoded at a time.

    Args:
        largest: images that the network sees at once. It sees 1, 2, 4, ... images, since some
            back-ends compile a network for each number.
        observe: takes the number of images of each batch.
    """

    def __init__(self, predictor: ImagePredictor, largest: int, observe: Callable[[int], object]):
        self._predictor = predictor
        self._largest = largest
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, "network")
        self._waiting: list[_Job] = []
        self._work: asyncio.Task[None] | None = None

    async def predict(self, name: str, encoded: bytes) -> Prediction:
        """Return the prediction of an encoded image.

        Raises:
            ImageReadError: the bytes are not a readable image.
        """
        job = _Job(name, encoded, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        return await job.result

    async def _run(self) -> None:
        """Predict batches until no request waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            jobs = self._waiting[: self._largest]
            del self._waiting[: self._largest]
            answer = loop.run_in_executor(self._thread, self._answer, jobs)
            await asyncio.wait([answer])
            failure = answer.exception()
            results = answer.result() if failure is None else [failure] * len(jobs)
            for job, result in zip(jobs, results, strict=True):
                if job.result.done():  # its request was cancelled
                    continue
                if isinstance(result, Prediction):
                    job.result.set_result(result)
                else:
                    job.result.set_exception(result)

    def _answer(self, jobs: Sequence[_Job]) -> list[Prediction | BaseException]:
        """Return the prediction of each job, or why its image cannot be read."""
        results: dict[_Job, Prediction | BaseException] = {}
        decoded: dict[_Job, Named] = {}
        for job in jobs:
            try:
                decoded[job] = job.name, self._decode(job)
            except ImageReadError as error:
                results[job] = error
        readable = list(decoded)
        for first, size in parts(len(readable), self._largest):
            part = readable[first : first + size]
            named = [decoded[job] for job in part]
            results |= dict(zip(part, self._predict(named), strict=True))
        return [results[job] for job in jobs]

    def _decode(self, job: _Job) -> Image:
        encoded = np.frombuffer(job.encoded, np.uint8)
        limit = self._predictor.config.data.max_megapixels
        return decode_image(encoded, job.name or "image", max_megapixels=limit)

    def _predict(self, named: Sequence[Named]) -> list[Prediction | BaseException]:
        """Predict a batch; where OpenCV refuses an image, predict each image alone."""
        self._observe(len(named))
        try:
            return list(self._predictor.stream(named, len(named)))
        except cv2.error as error:
            if len(named) == 1:
                return [ImageReadError(named[0][0] or "image", str(error.err))]
        return [result for one in named for result in self._predict([one])]


def parts(count: int, largest: int) -> Iterator[tuple[int, int]]:
    """Yield first index and size of parts of `count` items; sizes are powers of two <= largest."""
    first = 0
    while first < count:
        size = 1 << (min(count - first, largest).bit_length() - 1)
        yield first, size
        first += size

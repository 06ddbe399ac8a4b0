"""Scoring a network on a split with another back-end than MindSpore, which is not loaded."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4.checkpoint.settings import require_same_classes
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import Image, ImageReadError, decode_image, grey_image
from mindyolo_v4.data.readers.mindrecord import read_classes
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.deploy.backends import Backend, Maps
from mindyolo_v4.deploy.opening import open_backend
from mindyolo_v4.deploy.overlap import read_ahead
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.deploy.scores import detection_scores
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.top_k import TopK, format_top_k, top_k_metrics
from mindyolo_v4.runtime.alone import Alone
from mindyolo_v4.runtime.scoring_run import Scores, ScoringRun
from mindyolo_v4.runtime.signals import StopSignals

if TYPE_CHECKING:
    from mindyolo_v4.checkpoint.file import Checkpoint
    from mindyolo_v4.deploy.exported import ExportedFile

Numbered = tuple[int, Image]  # number in the data set, and image

_NAMED_IMAGES = 10  # unreadable images that the log names

logger = logging.getLogger(__name__)


class TimedBackend:
    """A back-end that adds up the time of its calls."""

    def __init__(self, backend: Backend):
        self._backend = backend
        self.name = backend.name
        self.card = backend.card
        self.path = backend.path
        self.spent_s = 0.0

    def __call__(self, images: NDArray[np.uint8]) -> Maps:
        """Return what the back-end returns."""
        started_s = time.perf_counter()
        outputs = self._backend(images)
        self.spent_s += time.perf_counter() - started_s
        return outputs


def test_backend(
    name: str,
    weights: "Checkpoint | ExportedFile",
    config: Config,
    signals: StopSignals | None = None,
    exist_ok: bool = False,
    allow_unreadable: bool = False,
) -> int:
    """Score a network and write the files of test.py. Return the exit status.

    The network sees `evaluate.per_batch_size` images at once, by default one.

    Raises:
        UserError: images could not be read, which `allow_unreadable` allows; all is written.
    """
    is_detector = weights.card.task == "detect"
    read = read_split if is_detector else read_classes
    dataset = read(config.data, config.evaluate.split)
    require_same_classes(weights, dataset.class_names, dataset.source)
    backend = open_backend(name, weights, config)

    device = {"target": "CPU", "back_end": backend.name}
    switches = signals, exist_ok, allow_unreadable
    title = f"Test of {weights.path} by {backend.name}"
    run = ScoringRun(weights.path, title, dataset, config, Alone(), device, *switches)
    return run(BackendScorer(backend, config, dataset))


class BackendScorer:
    """Runs every image of a split through a back-end once per call."""

    def __init__(self, backend: Backend, config: Config, dataset: Dataset | ClassImages):
        self._backend = TimedBackend(backend)
        self._predictor = Predictor.of(self._backend, config)
        self._config = config
        self._dataset = dataset

    def __call__(self, check: Callable[[], None]) -> Scores:
        """Score the network; the metrics are those of a test with MindSpore.

        Args:
            check: called between two batches; it may raise.
        """
        logger.info("back-end %s: %s", self._backend.name, self._backend.path)
        self._backend.spent_s = 0.0
        count = len(self._dataset)
        size = min(self._config.evaluate.per_batch_size or 1, count)
        unreadable: list[str] = []
        is_detector = isinstance(self._dataset, Dataset)
        tally = _Objects(self._dataset) if is_detector else _Classes(self._dataset)
        read_s = 0.0
        counted_s = 0.0
        bar = tqdm(total=count, unit="image", desc="validation", disable=None)
        with bar, closing(read_ahead(self._images(unreadable), check)) as images:
            since_s = time.perf_counter()
            while batch := list(islice(images, size)):
                started_s = time.perf_counter()
                tally.add(self._predictor, batch, size)
                read_s += started_s - since_s
                since_s = time.perf_counter()
                counted_s += since_s - started_s
                bar.update(len(batch))
        scores = tally.scores(self._config.data)
        for line in unreadable[:_NAMED_IMAGES]:
            logger.warning("%s", line)
        network_ms = self._backend.spent_s * 1000 / count
        scores.metrics.update(
            unreadable=len(unreadable),
            read_ms=read_s * 1000 / count,
            network_ms=network_ms,
            nms_ms=counted_s * 1000 / count - network_ms,
        )
        return scores

    def _images(self, unreadable: list[str]) -> Iterator[Numbered]:
        """Yield the number and the image of each; a grey one for one that cannot be read."""
        data = self._config.data
        dataset = self._dataset
        files = dataset.records if isinstance(dataset, Dataset) else dataset
        for number in range(len(files)):
            try:
                path = files.path(number)
                image = decode_image(files.encoded(number), path, 1, data.max_megapixels)
            except ImageReadError as error:
                unreadable.append(str(error))
                width = height = data.img_size
                if isinstance(dataset, Dataset):
                    width = dataset.records[number].width
                    height = dataset.records[number].height
                image = grey_image(width, data.pad_value, height)
            yield number, image


class _Objects:
    """The detections of a split, and their AP."""

    def __init__(self, dataset: Dataset):
        self._evaluator = CocoEvaluator(dataset)

    def add(self, predictor: Predictor, batch: Sequence[Numbered], size: int) -> None:
        """Detect the objects in a batch of at most `size` images."""
        detections = predictor.detect([image for _, image in batch], size)
        for (number, _), found in zip(batch, detections, strict=True):
            self._evaluator.add(number, found)

    def scores(self, data: DataConfig) -> Scores:
        """Return the metrics, COCO's files and the analysis."""
        return detection_scores(self._evaluator, data)


class _Classes:
    """The hits of a classifier."""

    def __init__(self, dataset: ClassImages):
        self._class_ids = dataset.class_ids
        self._counter = TopK()

    def add(self, predictor: Predictor, batch: Sequence[Numbered], size: int) -> None:
        """Classify a batch of at most `size` images."""
        logits = predictor.classify([image for _, image in batch], size)
        self._counter.add(logits, self._class_ids[[number for number, _ in batch]])

    def scores(self, _: DataConfig) -> Scores:
        """Return acc1 and acc5."""
        metrics = top_k_metrics(self._counter.counts)
        return Scores(dict(metrics), format_top_k(metrics), {})

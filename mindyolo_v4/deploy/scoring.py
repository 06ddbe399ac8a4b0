"""Scoring a network on a split with another back-end than MindSpore, which is not loaded."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from tqdm import tqdm

from mindyolo_v4.checkpoint.settings import Described, require_same_classes
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.readers.mindrecord import read_class_split
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.deploy.analysis import detection_scores
from mindyolo_v4.deploy.backends import Backend
from mindyolo_v4.deploy.opening import open_backend
from mindyolo_v4.deploy.overlap import read_ahead
from mindyolo_v4.deploy.pictures import read_or_grey
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.top_k import TopK, format_top_k, top_k_metrics
from mindyolo_v4.runtime.process import Process
from mindyolo_v4.runtime.scoring_run import Scores, ScoringRun, log_unreadable
from mindyolo_v4.runtime.signals import StopSignals

if TYPE_CHECKING:
    from mindyolo_v4.checkpoint.file import Checkpoint
    from mindyolo_v4.deploy.exported import ExportedFile

logger = logging.getLogger(__name__)


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
    dataset = scored_split(weights, config)
    backend = open_backend(name, weights, config)

    device = {"target": "CPU", "back_end": backend.name}
    switches = signals, exist_ok, allow_unreadable
    title = f"Test of {weights.path} by {backend.name}"
    run = ScoringRun(weights.path, title, dataset, config, Process(), device, *switches)
    return run(partial(score_backend, backend, config, dataset))


def scored_split(weights: Described, config: Config) -> Dataset | ClassImages:
    """Return the split `evaluate.split`. Raises UserError where it has other classes."""
    read = read_split if weights.card.task == "detect" else read_class_split
    dataset = read(config.data, config.evaluate.split)
    require_same_classes(weights, dataset.class_names, dataset.source)
    return dataset


def score_backend(
    backend: Backend, config: Config, dataset: Dataset | ClassImages, check: Callable[[], None]
) -> Scores:
    """Run every image of a split through a back-end once; return what a test with MindSpore does.

    Args:
        check: called between two batches; it may raise.
    """
    logger.info("back-end %s: %s", backend.name, backend.path)
    predictor = Predictor.of(backend, config)
    count = len(dataset)
    size = min(config.evaluate.per_batch_size or 1, count)
    evaluator = CocoEvaluator(dataset) if isinstance(dataset, Dataset) else None
    hits = TopK()
    unreadable: list[str] = []
    read_s = 0.0
    counted_s = 0.0
    bar = tqdm(total=count, unit="image", desc="validation", disable=None)
    read = ((n, read_or_grey(dataset, n, config.data, unreadable)) for n in range(count))
    with bar, closing(read_ahead(read, check)) as images:
        since_s = time.perf_counter()
        while batch := list(islice(images, size)):
            started_s = time.perf_counter()
            numbers = [number for number, _ in batch]
            pixels = [image for _, image in batch]
            if evaluator is not None:
                for number, found in zip(numbers, predictor.detect(pixels, size), strict=True):
                    evaluator.add(number, found)
            else:
                hits.add(predictor.classify(pixels, size), dataset.class_ids[numbers])
            read_s += started_s - since_s
            since_s = time.perf_counter()
            counted_s += since_s - started_s
            bar.update(len(batch))
    log_unreadable(unreadable)
    if evaluator is not None:
        scores = detection_scores(evaluator, config.data)
    else:
        accuracy = top_k_metrics(hits.counts)
        scores = Scores(dict(accuracy), format_top_k(accuracy), {})
    network_ms = predictor.network_s * 1000 / count
    scores.metrics.update(
        unreadable=len(unreadable),
        read_ms=read_s * 1000 / count,
        network_ms=network_ms,
        nms_ms=counted_s * 1000 / count - network_ms,
    )
    return scores

"""COCO-style detection: files -> samples -> network -> loss, and raw maps -> detections -> AP."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from mindspore import nn

from mindyolo_v4 import environment
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.anchor_fit import (
    box_sizes,
    describe_anchors,
    network_anchors,
    with_fitted_anchors,
)
from mindyolo_v4.data.loader.eval_stream import EvalStream
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.loader.stream import TrainStream
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.data.views import ImageViews
from mindyolo_v4.deploy.scores import detection_scores
from mindyolo_v4.distributed.collectives import Ranks
from mindyolo_v4.engine.scoring import ScoringPass
from mindyolo_v4.engine.task import Scores, Task
from mindyolo_v4.errors import require
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.detections import DETECTION_COLUMNS, detection_rows, detections_by_image
from mindyolo_v4.evaluation.merge import ViewDetections, detect_in_view, merge_views
from mindyolo_v4.evaluation.report import plot_results
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.losses.detection import DetectionLoss
from mindyolo_v4.losses.hiding import HidingLoss
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import describe_network
from mindyolo_v4.models.forward import TrainingForward, inference, normaliser

logger = logging.getLogger(__name__)


def load_detector(path: str | Path) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its averaged weights where it has them.

    The network is in inference mode, takes float32 images (B, 3, S, S) prepared as
    `card.preprocessing` says, and returns the raw maps, smallest stride first, each
    B x A(5+C) x H x W.

    Raises:
        UserError: the file is damaged, is no checkpoint of ours, or does not hold a detector.
    """
    environment.prepare()
    checkpoint = Checkpoint.open(path)
    return load_network(checkpoint, TASK.name), checkpoint.card


def complete(config: Config, dataset: Dataset, ranks: Ranks) -> tuple[Config, list[str]]:
    """Replace the anchors `auto` by those that fit the training boxes; return what to log."""
    if config.model.anchors_wh_px != "auto":
        return config, []
    sizes = box_sizes(dataset, config.data)
    model = with_fitted_anchors(config.model, sizes, config.seed)
    # Every device fits the same boxes by the same numbers; other processors may round differently.
    own = np.array(model.anchors_wh_px, np.float32)
    of_rank_0 = ranks.gather_rows(own)[: len(own)]
    pairs = tuple((float(width), float(height)) for width, height in of_rank_0)
    model = replace(model, anchors_wh_px=pairs)
    named = (("default", network_anchors(config.model)), ("fitted", network_anchors(model)))
    text = ", ".join(f"[{width:g}, {height:g}]" for width, height in pairs)
    lines = [f"model.anchors_wh_px: [{text}], fitted to {len(sizes)} boxes of data.train"]
    return replace(config, model=model), [*lines, *describe_anchors(sizes, named)]


def train_stream(config: Config, dataset: Dataset, ranks: Ranks) -> TrainStream:
    """Return the augmented samples of a training with their targets, in micro-batches."""
    data = config.data
    require(data.img_height is None, "data.img_height", "training takes square inputs only")
    train = config.train
    sizes = train.random_sizes or (data.img_size,)
    # Images are decoded for the largest size.
    samples = TrainSamples(dataset, replace(data, img_size=max(sizes)), config.seed, train.epochs)
    assign = {
        size: Assigner(
            config.model.anchor_set,
            size,
            len(dataset.class_names),
            data.max_truths,
            config.loss.anchor_threshold,
        )
        for size in sizes
    }
    return TrainStream(
        samples, assign, train.per_batch_size, data.num_workers, ranks, train.accumulate
    )


def training_forward(config: Config, network: nn.Cell, num_classes: int) -> nn.Cell:
    """Return images and targets -> loss and its parts."""
    anchors = config.model.anchor_set
    loss = DetectionLoss(anchors, num_classes, config.data.img_size, config.loss)
    return TrainingForward(normaliser(config.data), network, loss)


def image_views(config: Config, dataset: Dataset) -> ImageViews:
    """Return what the network sees of the images of a split."""
    sizes = [(record.width, record.height) for record in dataset.records]
    return ImageViews(np.array(sizes, np.int64).reshape(-1, 2), config.data, config.evaluate)


def eval_stream(config: Config, dataset: Dataset, per_batch_size: int, ranks: Ranks) -> EvalStream:
    """Return every image of a split once, or all views of every image."""
    views = None
    if config.evaluate.tta or config.evaluate.tile is not None:
        views = image_views(config, dataset)
        logger.info("%s", views.summary())
    workers = config.data.num_workers
    return EvalStream(dataset, config.data, per_batch_size, workers, ranks, views)


def hiding(config: Config) -> nn.Cell:
    """Return the loss by which self-adversarial training alters images: raw maps -> scalar."""
    return HidingLoss(config.model.anchor_set, config.loss)


def score(config: Config, dataset: Dataset, one_pass: ScoringPass, for_test: bool) -> Scores:
    """Score the outputs for all images, boxes in original pixels."""
    runtime = one_pass.runtime
    views = image_views(config, dataset)
    parts: dict[int, list[ViewDetections]] = {}  # of the images whose views are not complete
    rows = [np.zeros((0, DETECTION_COLUMNS), np.float32)]  # detections of this device's images
    nms_s = 0.0
    for raw_maps, numbers in one_pass.outputs():
        started_s = time.perf_counter()
        for slot, number in enumerate(numbers):
            view = views.view(int(number))
            levels = [level[slot] for level in raw_maps]
            found = detect_in_view(levels, config.model.anchor_set, config.evaluate, view)
            parts.setdefault(view.image, []).append(found)
            if len(parts[view.image]) == view.count:
                own = parts.pop(view.image)
                merged = merge_views(own, config.evaluate, len(views.variants))
                rows.append(detection_rows(view.image, merged))
        nms_s += time.perf_counter() - started_s
    one_pass.spent_ms["nms_ms"] = nms_s * 1000

    # Metrics over the detections of all devices.
    evaluator = CocoEvaluator(dataset)
    with runtime.heartbeat.pause("computing metrics"):
        all_rows = runtime.ranks.gather_rows(np.concatenate(rows))
        for index, detections in detections_by_image(all_rows):
            evaluator.add(index, detections)
        return detection_scores(evaluator, located(config.data).format, for_test)


def draw_curves(folder: Path, png: Path) -> None:
    """Draw the curves of a run folder."""
    plot_results(folder / "steps.csv", folder / "metrics.csv", png)


TASK = Task(
    name="detect",
    best_metric="AP",
    read=read_split,
    complete=complete,
    build=build_network,
    describe=describe_network,
    stream=train_stream,
    forward=training_forward,
    hiding=hiding,
    inference=inference,
    eval_stream=eval_stream,
    score=score,
    draw_curves=draw_curves,
)

"""COCO-style detection: files -> samples -> network -> loss, and raw maps -> detections -> AP."""

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from mindyolo_v4 import environment
from mindyolo_v4.boxes import xyxy_to_cxcywh
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.config.command_line import command_for
from mindyolo_v4.config.recipe import RUN_CONFIG, written_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.anchor_fit import (
    LEAST_RECALL,
    anchor_quality,
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
from mindyolo_v4.deploy.analysis import detection_scores
from mindyolo_v4.deploy.outputs import write_jpeg
from mindyolo_v4.deploy.pictures import draw_validation, shown_images
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine import training
from mindyolo_v4.engine.callbacks import Callback
from mindyolo_v4.engine.scoring import ScoringPass
from mindyolo_v4.engine.task import ImageLoss, Scores, Task
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.detections import (
    DETECTION_COLUMNS,
    Detections,
    detection_rows,
    detections_by_image,
)
from mindyolo_v4.evaluation.label_plot import plot_labels
from mindyolo_v4.evaluation.merge import ViewDetections, detect_in_view, merge_views
from mindyolo_v4.evaluation.report import plot_results
from mindyolo_v4.evaluation.sheets import batch_sheet
from mindyolo_v4.losses.assign import Assigner, matched_boxes
from mindyolo_v4.losses.detection import DetectionLoss
from mindyolo_v4.losses.hiding import HidingLoss
from mindyolo_v4.losses.validation import ValidationLoss, mean_losses
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import describe_network
from mindyolo_v4.models.estimate import describe_cost
from mindyolo_v4.models.forward import TrainingForward, inference
from mindyolo_v4.runtime.device import start

logger = logging.getLogger(__name__)


def load_detector(path: str | Path) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its averaged weights where it has them.

    The network is in inference mode, takes float32 images (B, 3, S, S) prepared as
    `card.preprocessing` says, and returns the raw maps, smallest stride first, each
    B x A(5+C) x H x W.

    Raises:
        UserError: the file is damaged, is not a checkpoint of ours, or does not hold a detector.
    """
    environment.prepare()
    checkpoint = Checkpoint.open(path)
    return load_network(checkpoint, TASK.name), checkpoint.card


def train(config: Config, callbacks: Sequence[Callback] = (), resume: str | None = None) -> Path:
    """Train a detector from a Python program; return the run folder.

    Args:
        callbacks: follow the training; they get what its files record.
        resume: a checkpoint to continue, or "auto": the newest one of `save_dir`.

    Raises:
        UserError: what `train.py` answers with status 2 or 3.
    """
    environment.prepare()
    tree = written_tree(config)
    config = replace(config, data=located(config.data))
    with (runtime := start(config)).heartbeat:
        return training.train(TASK, config, tree, runtime, "train", resume, callbacks=callbacks)


def complete(config: Config, dataset: Dataset, ranks: Ranks) -> tuple[Config, list[str]]:
    """Replace the anchors `auto` by those that fit the training boxes; return what to log."""
    if config.model.anchors_wh_px != "auto":
        return config, []
    sizes = box_sizes(dataset, config.data)
    model, strides = with_fitted_anchors(config.model, sizes, config.seed)
    # Every device fits the same boxes by the same numbers; other processors may round differently.
    own = np.array(model.anchors_wh_px, np.float32)
    of_rank_0 = ranks.gather_rows(own)[: len(own)]
    pairs = tuple((float(width), float(height)) for width, height in of_rank_0)
    model = replace(model, anchors_wh_px=pairs)
    named = (("default", network_anchors(config.model)), ("fitted", network_anchors(model)))
    text = ", ".join(f"[{width:g}, {height:g}]" for width, height in pairs)
    source = f"fitted to {len(sizes)} boxes of data.train at the levels of strides {strides}"
    if not strides:
        source = "those of the network: no level has as many different sizes of boxes as anchors"
    lines = [f"model.anchors_wh_px: [{text}], {source}"]
    return replace(config, model=model), [*lines, *describe_anchors(sizes, named)]


def check_anchors(config: Config, dataset: Dataset, folder: Path) -> None:
    """Log how well the anchors fit the training boxes; warn if they fit badly."""
    sizes = box_sizes(dataset, config.data)
    recall = anchor_quality(sizes, network_anchors(config.model))[1]
    logger.info("best possible recall of the anchors: %.4f", recall)
    if recall < LEAST_RECALL:
        command = f"{command_for('fit-anchors')} --config {shlex.quote(str(folder / RUN_CONFIG))}"
        problem = f"below {LEAST_RECALL:g}, the anchors do not fit the boxes of data.train"
        remedy = (
            "start again with --model.anchors_wh_px auto (if that was set, with a larger "
            "--img_size), or with the anchors that this prints"
        )
        logger.warning("%s; %s: %s", problem, remedy, command)


def train_stream(config: Config, dataset: Dataset, ranks: Ranks) -> TrainStream:
    """Return the augmented samples of a training with their targets, in micro-batches."""
    data = config.data
    train = config.train
    sizes = config.train_sizes
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
        samples,
        assign,
        train.per_batch_size,
        data.num_workers,
        ranks,
        train.accumulate,
        train.growing_epochs,
    )


def training_forward(config: Config, network: nn.Cell, num_classes: int) -> nn.Cell:
    """Return images and targets -> loss and its parts."""
    anchors = config.model.anchor_set
    loss = DetectionLoss(anchors, num_classes, config.data.img_size, config.loss)
    return TrainingForward(config.data, network, loss)


def image_views(config: Config, dataset: Dataset) -> ImageViews:
    """Return what the network sees of the images of a split."""
    return ImageViews(dataset.records.sizes_wh_px, config.data, config.evaluate)


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
    losses = [np.zeros((0, len(ValidationLoss.part_names)), np.float32)]
    rows = [np.zeros((0, DETECTION_COLUMNS), np.float32)]  # detections of this device's images
    nms_s = 0.0
    for raw_maps, numbers in one_pass.outputs():
        if one_pass.loss is not None:
            losses.append(batch_losses(one_pass.loss, raw_maps, numbers, dataset, views))
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
    shown = set() if for_test else set(shown_images(len(dataset), config.train.pictures).tolist())
    drawn = {index: Detections.none() for index in shown}
    with runtime.heartbeat.pause("computing metrics"):
        all_rows = runtime.ranks.gather_rows(np.concatenate(rows))
        for index, detections in detections_by_image(all_rows):
            evaluator.add(index, detections)
            if index in shown:
                drawn[index] = detections
        scores = detection_scores(evaluator, config.data, for_test)
    if one_pass.loss is not None:
        all_losses = runtime.ranks.gather_rows(np.concatenate(losses))
        scores.metrics.update(mean_losses(all_losses, ValidationLoss.part_names))
    if for_test:
        return scores
    return replace(scores, draw=partial(draw_validation, dataset, drawn, config.data))


def validation_loss(config: Config, num_classes: int) -> ValidationLoss | None:
    """Return the loss of a validation, if asked for and if the network sees whole images."""
    sees_parts = config.evaluate.tta or config.evaluate.tile is not None
    if sees_parts or not config.train.val_loss:
        return None
    return ValidationLoss(config, num_classes)


def batch_losses(
    loss: ImageLoss,
    raw_maps: Sequence[NDArray[np.floating]],
    numbers: NDArray[np.int64],
    dataset: Dataset,
    views: ImageViews,
) -> NDArray[np.float32]:
    """Return the losses (n, 4) of the first n images of a batch, whose numbers (n,) are given.

    n is 0 in the last batch of a device that has fewer images than the others.
    """
    rows = []
    for slot, number in enumerate(numbers):
        boxes_px, class_ids = dataset.records.targets(int(number))
        geometry = views.view(int(number)).geometry
        boxes = xyxy_to_cxcywh(geometry.to_input(boxes_px)) / geometry.input_width
        levels = [level[slot] for level in raw_maps]
        rows.append(loss(levels, boxes, class_ids))
    return np.array(rows, np.float32).reshape(-1, len(ValidationLoss.part_names))


def draw_batch(columns: Sequence[NDArray], class_names: Sequence[str], path: Path) -> None:
    """Draw images of a micro-batch with the boxes that its tables hold."""
    images, match_ids, match_values, _ = columns
    targets = [matched_boxes(*tables) for tables in zip(match_ids, match_values, strict=True)]
    pixels = images.transpose(0, 2, 3, 1).astype(np.uint8)  # float32 where SAT is on
    boxes = [box for box, _ in targets]
    write_jpeg(path, batch_sheet(pixels, boxes, [ids for _, ids in targets], None, class_names))


def draw_curves(folder: Path, png: Path) -> None:
    """Draw the curves of a run folder."""
    plot_results(folder / "steps.csv", folder / "metrics.csv", png)


TASK = Task(
    name="detect",
    best_metric="AP",
    read=read_split,
    complete=complete,
    check=check_anchors,
    build=build_network,
    describe=describe_network,
    estimate=describe_cost,
    stream=train_stream,
    forward=training_forward,
    hiding=hiding,
    inference=inference,
    eval_stream=eval_stream,
    score=score,
    validation_loss=validation_loss,
    draw_labels=plot_labels,
    draw_batch=draw_batch,
    draw_curves=draw_curves,
)

"""ImageNet classification: files -> samples -> network -> loss, and logits -> Acc@1 and Acc@5."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from mindyolo_v4 import environment
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.loader.eval_stream import EvalStream
from mindyolo_v4.data.loader.stream import TrainStream
from mindyolo_v4.data.readers.mindrecord import read_class_split
from mindyolo_v4.deploy.outputs import write_jpeg
from mindyolo_v4.deploy.pictures import draw_class_validation, shown_images
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.scoring import ScoringPass
from mindyolo_v4.engine.task import ImageLoss, Scores, Task
from mindyolo_v4.evaluation.label_plot import plot_class_counts
from mindyolo_v4.evaluation.report import CLASSIFICATION_CURVES, plot_results
from mindyolo_v4.evaluation.sheets import batch_sheet
from mindyolo_v4.evaluation.top_k import TopK, format_top_k, top_k_metrics
from mindyolo_v4.losses.classification import ClassificationLoss, losses_of_images
from mindyolo_v4.losses.validation import mean_losses
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import describe_network
from mindyolo_v4.models.estimate import describe_cost
from mindyolo_v4.models.forward import TrainingForward, inference

logger = logging.getLogger(__name__)


def load_classifier(path: str | Path) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its averaged weights where it has them.

    The network is in inference mode, takes float32 images (B, 3, S, S) prepared as
    `card.preprocessing` says, and returns logits (B, C).

    Raises:
        UserError: the file is damaged, is not a checkpoint of ours, or does not hold a classifier.
    """
    environment.prepare()
    checkpoint = Checkpoint.open(path)
    return load_network(checkpoint, TASK.name), checkpoint.card


def train_stream(config: Config, dataset: ClassImages, ranks: Ranks) -> TrainStream:
    """Return the augmented samples of a training, in micro-batches."""
    samples = ClassTrainSamples(dataset, config.data, config.seed)
    train = config.train
    assign = dict.fromkeys(config.train_sizes, targets)
    return TrainStream(
        samples,
        assign,
        train.per_batch_size,
        config.data.num_workers,
        ranks,
        train.accumulate,
        train.growing_epochs,
    )


def eval_stream(
    config: Config, dataset: ClassImages, per_batch_size: int, ranks: Ranks
) -> EvalStream:
    """Return every image of a split once."""
    return EvalStream(dataset, config.data, per_batch_size, config.data.num_workers, ranks)


def targets(class_ids: NDArray[np.int32], shares: NDArray[np.float32]) -> tuple[np.ndarray, ...]:
    """Hand a sample's classes (M,) and their shares (M,) to the loss as they are."""
    return class_ids, shares


def training_forward(config: Config, network: nn.Cell, num_classes: int) -> nn.Cell:
    """Return images and targets -> loss and its parts."""
    loss = ClassificationLoss(num_classes, config.loss)
    return TrainingForward(config.data, network, loss)


def score(config: Config, dataset: ClassImages, one_pass: ScoringPass, for_test: bool) -> Scores:
    """Return acc1 and acc5 in percent and images, over all devices."""
    ranks = one_pass.runtime.ranks
    counter = TopK()
    losses = [np.zeros((0, 1), np.float32)]
    shown = shown_images(len(dataset), config.train.pictures)
    drawn = [np.zeros((0, 1 + len(dataset.class_names)), np.float32)]  # number, logits
    for (logits,), indices in one_pass.outputs():
        logits = logits[: len(indices)]
        class_ids = dataset.class_ids[indices]
        counter.add(logits, class_ids)
        if one_pass.loss is not None:
            losses.append(one_pass.loss(logits, class_ids)[:, None])
        is_shown = np.isin(indices, shown)
        drawn.append(np.column_stack([indices[is_shown], logits[is_shown]]))

    metrics: dict[str, float | None] = {**top_k_metrics(ranks.sum(counter.counts))}
    line = format_top_k(metrics)
    if for_test:
        return Scores(metrics, line, {})
    logger.info("%s", line)
    if one_pass.loss is not None:
        metrics |= mean_losses(ranks.gather_rows(np.concatenate(losses)), ["val_loss"])
    outputs = ranks.gather_rows(np.concatenate(drawn))
    draw = partial(draw_class_validation, dataset, outputs, config.data)
    return Scores(metrics, line, {}, draw)


def validation_loss(config: Config, num_classes: int) -> ImageLoss | None:
    """Return the loss of a validation, if asked for."""
    return partial(losses_of_images, loss=config.loss) if config.train.val_loss else None


def draw_labels(dataset: ClassImages, png: Path) -> None:
    """Draw the number of images of each class."""
    counts = np.bincount(dataset.class_ids, minlength=len(dataset.class_names))
    plot_class_counts(counts, dataset.class_names, png)


def draw_batch(columns: Sequence[NDArray], class_names: Sequence[str], path: Path) -> None:
    """Draw images of a micro-batch with their classes and the shares of these."""
    images, class_ids, shares = columns
    pixels = images.transpose(0, 2, 3, 1)
    height, width = pixels.shape[1:3]
    used = shares > 0
    boxes = [np.tile([0.0, 0.0, width, height], (count, 1)) for count in used.sum(axis=1)]
    ids = [row[mask] for row, mask in zip(class_ids, used, strict=True)]
    shown = [row[mask] for row, mask in zip(shares, used, strict=True)]
    write_jpeg(path, batch_sheet(pixels, boxes, ids, shown, class_names))


def draw_curves(folder: Path, png: Path) -> None:
    """Draw the curves of a run folder."""
    plot_results(
        folder / "steps.csv", folder / "metrics.csv", png, CLASSIFICATION_CURVES, top=100.0
    )


TASK = Task(
    name="classify",
    best_metric="acc1",
    read=read_class_split,
    complete=lambda config, split, ranks: (config, ()),
    check=None,
    build=build_network,
    describe=describe_network,
    estimate=describe_cost,
    stream=train_stream,
    forward=training_forward,
    hiding=None,
    inference=inference,
    eval_stream=eval_stream,
    score=score,
    validation_loss=validation_loss,
    draw_labels=draw_labels,
    draw_batch=draw_batch,
    draw_curves=draw_curves,
)

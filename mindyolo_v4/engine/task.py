"""What a task, detection or classification, brings to training and testing."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.callbacks import Callback
from mindyolo_v4.engine.micro_batches import MicroBatch
from mindyolo_v4.runtime.scoring_run import ScoredSplit, Scores, log_unreadable

Check = Callable[[], None]  # raises StoppedError where a signal has come
ImageLoss = Callable[..., NDArray[np.float32]]  # outputs and targets of images -> their loss

logger = logging.getLogger(__name__)


class Split(ScoredSplit, Protocol):
    """One split of a data set, read and checked."""

    class_names: tuple[str, ...]

    def summary(self) -> str: ...


class Stream(Protocol):
    """The micro-batches of a training, numbered from its start."""

    steps_per_epoch: int

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, ...]]: ...

    def set_epochs(self, epochs: int) -> None: ...

    def report(self) -> dict[str, Any]: ...


class EvalBatches(Protocol):
    """Every image of a split once: images (B, 3, H, W), and the numbers (n,) of the first n.

    Batches may differ in height and width. The length is the number of images of this device.
    """

    def __len__(self) -> int: ...

    def batches(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]: ...

    def report(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Task:
    """The functions that a task puts in, in the order in which training calls them."""

    name: str  # detect or classify
    best_metric: str  # the largest value of this one makes best.ckpt
    read: Callable[[DataConfig, str], Split]  # configuration, split -> data set
    # What the recipe leaves to the training split, and what the log says of that.
    complete: Callable[[Config, Split, Ranks], tuple[Config, Sequence[str]]]
    # Logs how the configuration suits the training split; the last one is the run folder.
    check: Callable[[Config, Split, Path], None] | None
    build: Callable[[ModelConfig, int, int], nn.Cell]  # model, classes, seed -> network
    describe: Callable[[Config, nn.Cell], Sequence[str]]  # what the log says of the network
    # configuration, network, images of an epoch on this device -> memory and time on a CPU, or ""
    estimate: Callable[[Config, nn.Cell, int], str]
    stream: Callable[[Config, Split, Ranks], Stream]  # samples with targets, as micro-batches
    forward: Callable[[Config, nn.Cell, int], nn.Cell]  # network, classes -> cell with the loss
    # Its loss by which self-adversarial training alters images: network's output -> scalar.
    hiding: Callable[[Config], nn.Cell] | None
    inference: Callable[[Config, nn.Cell], nn.Cell]  # network -> cell that takes uint8 images
    # configuration, split, images per batch -> its images
    eval_stream: Callable[[Config, Split, int, Ranks], EvalBatches]
    score: Callable[..., Scores]  # configuration, split, ScoringPass, for a test -> scores
    # configuration, number of classes -> the loss of images in a validation, if there is one
    validation_loss: Callable[[Config, int], ImageLoss | None]
    draw_labels: Callable[[Split, Path], None]  # training split, picture to write
    # columns of a micro-batch, class names, picture to write
    draw_batch: Callable[[Sequence[NDArray[Any]], Sequence[str], Path], None]
    draw_curves: Callable[[Path, Path], None]  # run folder, picture to write


@dataclass(frozen=True)
class TrainingParts:
    """What a task hands to the training loop: the network with its loss, its batches, its score."""

    forward: nn.Cell  # construct(*micro-batch) -> (total, (part, ...)); attribute `part_names`
    network: nn.Cell  # inside `forward`: what is saved, averaged and frozen
    batches: Callable[[int, int], Iterator[MicroBatch]]  # number start..stop-1 of the training
    steps_per_epoch: int  # micro-batches per epoch on each device
    # Scores the network as it is now, on every device; calls the argument between its batches.
    evaluate: Callable[[Check], Mapping[str, Any]] | None
    card: Mapping[str, Any]  # what the checkpoints say of themselves; the session adds "training"
    # Images and a rate -> the images that self-adversarial training makes of them, if it is on.
    alter: nn.Cell | None = None
    best_metric: str = "AP"  # the largest value of this metric makes best.ckpt
    # Draws the micro-batches of a step, which counts from 0, as the network sees them.
    see_batches: Callable[[int, Sequence[MicroBatch]], None] = lambda step, batches: None
    # Tells the samples another number of epochs; calls of `batches` after it follow.
    set_epochs: Callable[[int], None] = lambda epochs: None
    callbacks: Sequence[Callback] = ()  # of rank 0


def log_left_out(report: dict[str, Any]) -> None:
    """Name the images that a stream could not read, and count the boxes that it left out."""
    unreadable = report["unreadable"].items()
    log_unreadable([f"{path}: could not be decoded ({count} times)" for path, count in unreadable])
    if report.get("truths_dropped"):
        count = report["truths_dropped"]
        logger.warning("%d boxes exceeded data.max_truths and were not trained", count)

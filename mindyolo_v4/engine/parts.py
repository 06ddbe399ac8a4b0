"""What a task hands to the training loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindspore import nn

from mindyolo_v4.engine.callbacks import Callback
from mindyolo_v4.engine.micro_batches import MicroBatch

Check = Callable[[], None]  # raises StoppedError where a signal has come


@dataclass(frozen=True)
class TrainingParts:
    """The network with its loss, its batches and its score."""

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

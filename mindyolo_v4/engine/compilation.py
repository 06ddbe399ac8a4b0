"""Compilation of all graphs of a training before its first step, so that no later step waits."""

import logging
import time
from collections.abc import Sequence

import mindspore as ms

from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.engine.micro_batches import MicroBatch, StepBatches, stand_in
from mindyolo_v4.engine.sat import SelfAdversary, as_float32
from mindyolo_v4.engine.step import TrainStep

logger = logging.getLogger(__name__)


def compile_steps(
    train_step: TrainStep,
    adversary: SelfAdversary | None,
    step_batches: StepBatches,
    micro_batches: Sequence[MicroBatch],
    heartbeat: Heartbeat,
) -> None:
    """Compile the graphs for every input size; log how many they are and how long it takes.

    In PyNative mode nothing is compiled.

    Args:
        micro_batches: of the first step.
    """
    logger.info("compiling the training graph: this happens once, before the first step ...")
    started_s = time.monotonic()
    in_graph_mode = ms.get_context("mode") == ms.GRAPH_MODE
    accumulate = step_batches.accumulate
    images_per_batch = sum(len(batch[0]) for batch in micro_batches) // accumulate
    parts = step_batches.parts
    if len(parts) == 1:
        parts = {micro_batches[0][0].shape[-1]: len(micro_batches) // accumulate}

    for size, count in parts.items():
        size_started_s = time.monotonic()
        # The last one lasts until the first step is done: in PyNative mode, that compiles the
        # operators.
        heartbeat.expect("compiling")
        batch = stand_in(micro_batches[0], size, images_per_batch // count)
        if adversary is not None:
            if in_graph_mode:
                adversary.compile(batch)
            batch = as_float32(batch)
        train_step.compile(0.0, batch, accumulate * count)
        if len(parts) > 1:
            logger.info("%d px: compiled in %.1f s", size, time.monotonic() - size_started_s)

    if adversary is not None:
        logger.info("%s", adversary.describe())
    graphs = len(parts) * (1 if adversary is None else 2)
    graphs += any(accumulate * count > 1 for count in parts.values())  # the update of them all
    seconds = time.monotonic() - started_s
    if in_graph_mode and graphs > 1:
        logger.info("compiled in %.1f s: %d graphs", seconds, graphs)
    else:
        logger.info("compiled in %.1f s", seconds)

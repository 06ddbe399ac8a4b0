"""What training and testing of every task have in common: compiled forward passes, the run folder, the log."""

from mindyolo_v4 import environment  # noqa: F401  first: it sets the process up before MindSpore or OpenCV loads

# isort: split
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import mindspore as ms
import numpy as np
from mindspore import nn

from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.settings import changed_settings, read_card, take_over_variants
from mindyolo_v4.config.recipe import Tree, dump_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.loader.stream import EvalStream
from mindyolo_v4.distributed.heartbeat import WATCH
from mindyolo_v4.engine.loop import fit
from mindyolo_v4.engine.schedule import describe_batch
from mindyolo_v4.engine.session import TrainingParts, check_accumulation
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.blocks import describe_norm
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.describe import giga_flops, parameter_count
from mindyolo_v4.models.forward import InferenceForward, TrainingForward, normaliser  # noqa: F401
from mindyolo_v4.runtime.device import (
    Runtime,
    existing_run_folder,
    make_run_folder,
    peak_memory_gb,
    setup_logger,
)
from mindyolo_v4.runtime.files import full_disk_as_user_error, write_text
from mindyolo_v4.runtime.run_lock import run_lock
from mindyolo_v4.runtime.signals import interruptible

logger = logging.getLogger(__name__)

Output = TypeVar("Output")


def load_network(path: str | Path, task: str) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its weights (the averaged ones where it has them).

    Raises:
        UserError: the file is damaged, is no checkpoint of ours, or does not hold a network for `task`.
    """
    card = read_card(path, task)
    # Fused operators are for training: nothing is to be compiled here, whatever the run that trained it asked for.
    network = build_network(
        replace(card.model, cpu_fused="off", sync_bn=False), len(card.class_names)
    )
    checkpoint.load_weights(path, network)
    network.set_train(False)
    return network, card


def timed_outputs(
    forward: Callable[[ms.Tensor], Output], stream: EvalStream, spent: dict[str, float]
) -> Iterator[tuple[Output, np.ndarray]]:
    """Yield what `forward` makes of each batch on the host, and which images it holds.

    The milliseconds of waiting for batches and of `forward` are added to `read_ms` and `network_ms` of `spent`.
    """
    since = time.perf_counter()
    compiled = False
    for images, indices in interruptible(stream.batches()):
        read = time.perf_counter()
        with nullcontext() if compiled else WATCH.pause("compiling"):
            output = forward(images)
        compiled = True
        spent["read_ms"] += (read - since) * 1000
        spent["network_ms"] += (time.perf_counter() - read) * 1000
        yield output, indices
        WATCH.beat()
        since = time.perf_counter()


def take_over(config: Config, tree: Tree, card: Card | None) -> tuple[Config, list[str]]:
    """Give the configuration the variants of its starting weights; return it with a line for each that changed."""
    if card is None:
        return config, []
    config, taken = take_over_variants(config, tree, card)
    return config, [f"taken over from {config.weight}: {line}" for line in taken]


def describe_start(config: Config, runtime: Runtime, network: nn.Cell) -> list[str]:
    """Return what is in force, a line each: device, operators, network."""
    count, size = parameter_count(network), config.data.img_size
    batch = describe_batch(config, runtime.world_size)
    return [
        *runtime.notes,
        f"{runtime.device_target}, {runtime.ms_mode} mode, jit level {runtime.jit_level}, mixed precision "
        f"{runtime.amp_level}, {runtime.world_size} device(s) x {config.train.per_batch_size} images x "
        f"{config.train.accumulate} accumulated",
        f"batch normalisation with activation while training: {describe_norm(config.model)}",
        f"{config.model.architecture}: {count:,} parameters, {giga_flops(network, size):.3f} GFLOPs at {size} px",
        *([batch] if batch else []),
    ]


def run_training(
    parts: TrainingParts,
    config: Config,
    runtime: Runtime,
    default_name: str,
    resume: str | None,
    lines: Sequence[str],
    warnings: Sequence[str] = (),
) -> Path:
    """Train in the run folder, whose log begins with `lines` and `warnings`; return the folder.

    Args:
        default_name: of the folder, where the configuration names none.
        resume: None, a checkpoint, or "auto": the newest one of the folder, the beginning where it has none yet.
    """
    check_accumulation(parts, config.train)
    _require_resumable(resume, config.save_dir, default_name)
    folder = make_run_folder(config.save_dir, default_name, resume is not None)
    with (
        run_lock(folder, runtime.rank, runtime.world_size) as notes,
        full_disk_as_user_error(folder),
    ):
        setup_logger(folder, runtime.rank, world_size=runtime.world_size)
        for line in [*notes, *lines]:
            logger.info("%s", line)
        for line in warnings:
            logger.warning("%s", line)
        resume_from = checkpoint.newest_valid(folder) if resume == "auto" else resume
        if resume_from is not None:
            for line in changed_settings(checkpoint.load_card(resume_from)["config"], config):
                logger.warning("resumed with another value than the checkpoint's: %s", line)
        if runtime.rank == 0:
            write_text(folder / checkpoint.CONFIG, dump_config(config))
        fit(parts, config, runtime, folder, None if resume_from is None else Path(resume_from))
    return folder


def _require_resumable(resume: str | None, save_dir: str | None, default_name: str) -> None:
    """Raise UserError, before anything is written, where there is nothing to resume."""
    if resume == "auto":
        existing_run_folder(save_dir, default_name)
    elif resume is not None:
        checkpoint.load_card(resume)


def log_unreadable(report: dict[str, Any]) -> None:
    """Name the images that a stream could not read."""
    for path, count in report["unreadable"].items():
        logger.warning("%s: could not be decoded (%d times)", path, count)


def log_end(folder: Path) -> None:
    """Say what the run took and where it lies."""
    logger.info("peak memory %.2f GB; run folder: %s", peak_memory_gb(), folder)


def require_same_classes(card: Card, class_names: tuple[str, ...]) -> None:
    """Raise UserError where a data set's classes are not the checkpoint's."""
    if class_names != card.class_names:
        raise UserError(
            "data.names",
            "not the classes of the checkpoint",
            list(class_names),
            list(card.class_names),
        )

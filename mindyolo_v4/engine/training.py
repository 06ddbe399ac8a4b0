"""Training of any task: from a configuration to a run folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindspore import nn

from mindyolo_v4 import __version__
from mindyolo_v4.checkpoint import run_folder as checkpoints
from mindyolo_v4.checkpoint.card import make_card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.settings import (
    describe_other_classes,
    require_same_names,
    take_over_variants,
)
from mindyolo_v4.config.recipe import RUN_CONFIG, Tree, dump_config, record_to_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.allocation import failed_allocation_as_user_error
from mindyolo_v4.engine.callbacks import Callback
from mindyolo_v4.engine.loop import fit
from mindyolo_v4.engine.optimizer import freeze, recompute
from mindyolo_v4.engine.pictures import Pictures
from mindyolo_v4.engine.resume import with_recorded_anchors
from mindyolo_v4.engine.sat import AlteredImages
from mindyolo_v4.engine.schedule import describe_batch
from mindyolo_v4.engine.scoring import Scorer
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.sizes import forward_by_size
from mindyolo_v4.engine.task import Check, Split, Stream, Task, TrainingParts, log_left_out
from mindyolo_v4.errors import require
from mindyolo_v4.runtime.device import Runtime, describe_peak_memory, peak_memory_gb
from mindyolo_v4.runtime.files import full_disk_as_user_error, write_text
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.precision import to_mixed_precision
from mindyolo_v4.runtime.run_folder import locked, make_run_folder, require_run_folder
from mindyolo_v4.runtime.run_record import begin_record, end_record
from mindyolo_v4.runtime.signals import StopSignals

logger = logging.getLogger(__name__)

_CONTINUE = "--resume without PATH"
_REMEDY = "what was written before is whole; free some space and repeat the command with --resume"


def train(
    task: Task,
    config: Config,
    tree: Tree,
    runtime: Runtime,
    default_name: str,
    resume: str | None = None,
    signals: StopSignals | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train as a configuration says; everything is written to the run folder, which is returned.

    Args:
        tree: the keys that the user wrote; the starting weights decide on some of the others.
        default_name: of the run folder, where the configuration names none.
        resume: a checkpoint, continued in a folder without files, or "auto": the folder's newest.
        callbacks: follow the training on rank 0.
    """
    goes_on = resume == "auto"
    resumed = None if resume is None or goes_on else Checkpoint.open(resume)
    config, start_weights, taken_over = starting_weights(config, tree)
    train_set = _training_set(task, config)
    val_set = _validation_set(task, config, train_set)
    config = with_recorded_anchors(config, resumed, goes_on, default_name)
    config, completed = task.complete(config, train_set, runtime.ranks)
    lines = [train_set.summary(), *taken_over, *completed]
    config = _with_names(config, train_set.class_names)
    network = _build(task, config, train_set.class_names, start_weights, lines)
    stream = task.stream(config, train_set, runtime.ranks)
    pictures = Pictures(task, config, train_set.class_names, runtime)
    parts = _training_parts(task, config, runtime, network, stream, val_set, pictures, callbacks)
    session = Session(parts, config, runtime)
    # The run folder, which nothing is written to before all of the above is right.
    if goes_on:
        require_run_folder(config.save_dir, default_name)
    elif resumed is not None:
        lines += session.resume(resumed)
    folder = make_run_folder(config.save_dir, default_name, runtime, _CONTINUE, goes_on)
    with locked(folder, runtime) as notes, full_disk_as_user_error(folder, _REMEDY):
        setup_logger(folder, "train.log", runtime.ranks)
        newest = checkpoints.newest_valid(folder) if goes_on else None
        lines += session.resume(newest) if newest else []
        _begin_record(session, folder, goes_on)
        _log([*notes, *_describe(task, config, runtime, network, stream), *lines])
        _warn(task, config, train_set, val_set, folder)
        pictures.begin(folder, train_set)
        _fit(session, folder, signals)
        pictures.end()
    _report_end(task, session, stream, folder)
    return folder


def starting_weights(config: Config, tree: Tree) -> tuple[Config, Checkpoint | None, list[str]]:
    """Return the configuration that fits the weights to start from, these, and what to log."""
    if config.weight is None:
        return config, None, []
    weights = Checkpoint.open(config.weight)
    config, lines = take_over_variants(config, tree, weights)
    return config, weights, lines


def _log(lines: Sequence[str]) -> None:
    for line in lines:
        logger.info("%s", line)


def _warn(
    task: Task, config: Config, train_set: Split, val_set: Split | None, folder: Path
) -> None:
    """Log what may be wrong with the data set, and with a configuration for it."""
    for split in (train_set, val_set):
        for line in () if split is None else split.warning_lines():
            logger.warning("%s", line)
    if task.check is not None:
        task.check(config, train_set, folder)


def _begin_record(session: Session, folder: Path, goes_on: bool) -> None:
    """Write on rank 0 with what a training begins; from then on it can be resumed."""
    config = session.config
    runtime = session.runtime
    if runtime.ranks.rank == 0:
        write_text(folder / RUN_CONFIG, dump_config(config))
        begin_record(folder, config.seed, runtime.facts(), goes_on)


def _fit(session: Session, folder: Path, signals: StopSignals | None) -> None:
    """Train; rank 0 records in the folder how that ended."""
    with failed_allocation_as_user_error(session.config):
        fit(session, folder, signals)
    if session.runtime.ranks.rank == 0:
        end_record(folder, _end(session))


def _end(session: Session) -> dict[str, Any]:
    memory_gb = round(peak_memory_gb(), 3)
    return session.state.end(session.stopped_by) | {"peak_memory_gb": memory_gb}


def _report_end(task: Task, session: Session, stream: Stream, folder: Path) -> None:
    """Tell the log and the callbacks how the training has ended; wait for the other devices."""
    log_left_out(stream.report())
    memory = f"{describe_peak_memory(session.runtime.device_target)}; run folder: {folder}"
    lines = session.state.end_lines(task.best_metric, session.stopped_by)
    logger.info("%s", "\n".join([*lines, memory]))
    values = _end(session) | {"best": session.state.best, "folder": folder}
    for callback in session.parts.callbacks:
        callback.on_end(session.state.step, session.state.epoch, values)
    session.runtime.ranks.wait()  # one that left early would fail the others


def _with_names(config: Config, class_names: tuple[str, ...]) -> Config:
    """Return the configuration with the names of the classes, unless they were chosen of more."""
    if config.data.classes is not None or config.data.single_cls:
        return config
    return replace(config, data=replace(config.data, names=list(class_names)))


def _training_set(task: Task, config: Config) -> Split:
    """Return the training split. Raises UserError for an input that is not a square."""
    height = config.data.img_height
    require(height is None, "data.img_height", "training takes square inputs only", height)
    return task.read(config.data, "train")


def _validation_set(task: Task, config: Config, train_set: Split) -> Split | None:
    """Return the validation split, if there is one, with the classes of the training split.

    Raises:
        UserError: it has other classes.
    """
    if config.data.val is None:
        return None
    train_names = train_set.class_names
    # Names that are given stay: their file may also state the shape of key points.
    with_names = config if config.data.names is not None else _with_names(config, train_names)
    val_set = task.read(with_names.data, "val")
    require_same_names(train_names, train_set.source, val_set.class_names, val_set.source)
    return val_set


def _build(
    task: Task,
    config: Config,
    class_names: tuple[str, ...],
    weights: Checkpoint | None,
    lines: list[str],
) -> nn.Cell:
    """Return the network with its starting weights, some of it frozen; add what to log to lines."""
    network = task.build(config.model, len(class_names), config.seed)
    if weights is not None:
        lines += weights.load_weights(network, partial=True).lines()
        lines += describe_other_classes(weights, class_names)
    if frozen := freeze(network, config.train.freeze):
        lines.append(f"frozen: {len(frozen)} parameters")
    recompute(network, config.train.recompute)
    return network


def _training_parts(
    task: Task,
    config: Config,
    runtime: Runtime,
    network: nn.Cell,
    stream: Stream,
    val_set: Split | None,
    pictures: Pictures,
    callbacks: Sequence[Callback],
) -> TrainingParts:
    class_names = pictures.class_names
    network, forward, alter = training_cells(task, config, runtime, network, len(class_names))
    card = make_card(config, class_names, f"trained by mindyolo_v4 {__version__}")
    evaluate = None
    if val_set is not None:
        loss = task.validation_loss(config, len(class_names))
        score = Scorer(task, config, network, val_set, runtime, loss)

        def evaluate(check: Check) -> Mapping[str, Any]:
            scores = score(check, for_test=False)
            pictures.validation(scores)
            return scores.metrics

    return TrainingParts(
        forward,
        network,
        stream.batches,
        stream.steps_per_epoch,
        evaluate,
        record_to_tree(card),
        alter,
        task.best_metric,
        pictures.step,
        stream.set_epochs,
        callbacks if runtime.ranks.rank == 0 else (),
    )


def training_cells(
    task: Task, config: Config, runtime: Runtime, network: nn.Cell, classes: int
) -> tuple[nn.Cell, nn.Cell, nn.Cell | None]:
    """Return what a step runs: the network in its precision, it with its loss, and image altering.

    The last one is for self-adversarial training; None if that is off.
    """
    network = to_mixed_precision(network, runtime.amp_level, runtime.amp_dtype)
    forward = forward_by_size(config, lambda sized: task.forward(sized, network, classes))
    if config.train.sat_prob == 0.0 or task.hiding is None:
        return network, forward, None
    loss_scale = 1.0 if runtime.amp_level == "O0" else config.train.loss_scale_value
    alter = AlteredImages(task.inference(config, network), task.hiding(config), loss_scale)
    return network, forward, alter


def _describe(
    task: Task, config: Config, runtime: Runtime, network: nn.Cell, stream: Stream
) -> list[str]:
    """Return what is in force, a line each: device, network, memory and time, batch."""
    train = config.train
    lines = [
        *runtime.notes,
        f"{runtime.device_target}, {runtime.ms_mode} mode, jit level {runtime.jit_level}, mixed "
        f"precision {runtime.precision}, {runtime.ranks.size} device(s) x {train.per_batch_size} "
        f"images x {train.accumulate} accumulated",
        *task.describe(config, network),
    ]
    is_measured = runtime.device_target == "CPU" and runtime.ms_mode == "graph"
    if is_measured and runtime.amp_level == "O0":
        images = stream.steps_per_epoch * train.per_batch_size
        lines.append(task.estimate(config, network, images))
    lines.append(describe_batch(config, runtime.ranks.size))
    return [line for line in lines if line]

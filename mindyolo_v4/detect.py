"""COCO-style detection, wired: files -> samples -> network -> loss -> checkpoint, and raw maps -> detections -> AP."""

from mindyolo_v4 import environment  # noqa: F401  first: it sets the process up before MindSpore or OpenCV loads

# isort: split
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn
from tqdm import tqdm

from mindyolo_v4 import __version__
from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.settings import config_for_checkpoint, make_card, read_card
from mindyolo_v4.config.recipe import Tree, build_config, merge_trees, record_to_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.loader.stream import EvalStream, TrainStream
from mindyolo_v4.data.readers.split import read_split, warning_lines
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.distributed.collectives import gather_rows, leave_together
from mindyolo_v4.distributed.heartbeat import WATCH
from mindyolo_v4.engine.optimizer import freeze
from mindyolo_v4.engine.session import TrainingParts
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.nms import (
    DETECTION_COLUMNS,
    detect_objects,
    detection_rows,
    detections_by_image,
)
from mindyolo_v4.evaluation.report import format_metrics_table, plot_results
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.losses.detection import DetectionLoss
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.forward import InferenceForward, TrainingForward, normaliser
from mindyolo_v4.runtime.device import (
    Runtime,
    choose_device,
    make_run_folder,
    setup_logger,
    start,
    to_mixed_precision,
)
from mindyolo_v4.wiring import (
    describe_start,
    load_network,
    log_end,
    log_unreadable,
    require_same_classes,
    run_training,
    take_over,
    timed_outputs,
)

logger = logging.getLogger(__name__)


def train(tree: Tree, default_name: str, resume: str | None = None) -> int:
    """Train a detector as a configuration tree says; everything lands in the run folder. Return the exit status."""
    config = build_config(tree)
    runtime = start(config)
    config, taken_over = take_over(
        config, tree, read_card(config.weight) if config.weight else None
    )
    train_set = read_split(config.data, "train")
    config = replace(config, data=replace(config.data, names=list(train_set.class_names)))
    val_set = read_split(config.data, "val") if config.data.val is not None else None

    network = build_network(config.model, len(train_set.class_names), config.seed)
    loaded = (
        [checkpoint.load_weights(config.weight, network, partial=True)] if config.weight else []
    )
    freeze(network, config.train.freeze)
    lines = [
        *describe_start(config, runtime, network),
        _describe_data(train_set),
        *taken_over,
        *map(str, loaded),
    ]
    parts, stream = _training_parts(config, runtime, network, train_set, val_set)
    folder = run_training(
        parts, config, runtime, default_name, resume, lines, warning_lines(train_set)
    )
    if runtime.rank == 0:
        _log_end(folder, stream)
    leave_together(runtime.world_size)
    return 0


def test(weight: str, recipe: Tree, overrides: Tree, exist_ok: bool = False) -> int:
    """Score a checkpoint on a split and write the results to the run folder. Return the exit status."""
    choose_device(build_config(merge_trees(recipe, overrides, "command line")).device_target)
    card = read_card(weight, "detect")
    config = config_for_checkpoint(weight, card, recipe, overrides)
    runtime = start(config)
    dataset = read_split(config.data, config.evaluate.split)
    require_same_classes(card, dataset.class_names)
    folder = make_run_folder(config.save_dir, "test", exist_ok, permission="--exist_ok")
    setup_logger(folder, runtime.rank, "test.log", runtime.world_size)
    network, _ = load_detector(weight)
    network = to_mixed_precision(network, runtime.amp_level)
    logger.info("%s: %d images of %s", weight, len(dataset.records), dataset.source)
    forward = InferenceForward(normaliser(config.data), network)
    evaluator, metrics = score(forward, dataset, config, runtime, progress=True)
    results = {"metrics.json": metrics, "predictions.json": evaluator.predictions()}
    if config.data.format != "coco":
        results["ground_truth.json"] = evaluator.ground_truth()
    for name, content in results.items() if runtime.rank == 0 else ():
        (folder / name).write_text(json.dumps(content) + "\n", encoding="utf-8")
    logger.info("%s\nwritten to %s", format_metrics_table(metrics), folder)
    leave_together(runtime.world_size)
    return 0


def load_detector(path: str | Path) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its weights (the averaged ones where it has them).

    The network is in inference mode, takes float32 images (B, 3, S, S) prepared as `card.preprocessing` says, and
    returns the raw maps, smallest stride first, each B x A(5+C) x H x W.

    Raises:
        UserError: the file is damaged, is no checkpoint of ours, or does not hold a detector.
    """
    return load_network(path, "detect")


def score(
    forward: nn.Cell, dataset: Dataset, config: Config, runtime: Runtime, progress: bool = False
) -> tuple[CocoEvaluator, dict[str, Any]]:
    """Run every image of a data set through the network once, shared between the devices; score in original pixels.

    Returns:
        The evaluator, with the detections of all devices on each of them, and its metrics with the mean milliseconds
        an image of reading, network and NMS on this device.
    """
    rank, world_size = runtime.rank, runtime.world_size
    batch_size = config.evaluate.per_batch_size or config.train.per_batch_size
    batch_size = min(batch_size, -(-len(dataset.records) // world_size))
    stream = EvalStream(dataset, config.data, batch_size, config.data.num_workers, rank, world_size)
    anchors, evaluator = config.model.anchor_set, CocoEvaluator(dataset)
    spent = {"read_ms": 0.0, "network_ms": 0.0, "nms_ms": 0.0}

    def raw_maps_of(images: ms.Tensor) -> list[np.ndarray]:
        return [level.asnumpy() for level in forward(images)]

    rows = [np.zeros((0, DETECTION_COLUMNS), np.float32)]
    own = max(len(range(rank, len(dataset.records), world_size)), 1)
    bar = tqdm(
        total=own, unit="image", desc="validation", disable=None if progress and rank == 0 else True
    )
    for raw_maps, indices in timed_outputs(raw_maps_of, stream, spent):
        started = time.perf_counter()
        for row, index in enumerate(indices):
            record = dataset.records[index]
            geometry = resize_geometry(
                config.data.resize, record.width, record.height, config.data.img_size
            )
            found = detect_objects([level[row] for level in raw_maps], anchors, config.evaluate)
            rows.append(detection_rows(int(index), found.to_original(geometry)))
        spent["nms_ms"] += (time.perf_counter() - started) * 1000
        bar.update(len(indices))
    bar.close()
    log_unreadable(stream.report())
    for index, found in detections_by_image(gather_rows(np.concatenate(rows), rank, world_size)):
        evaluator.add(index, found)
    with WATCH.pause("computing metrics"):
        metrics = evaluator.metrics()
    return evaluator, metrics | {name: value / own for name, value in spent.items()}


def _training_parts(
    config: Config, runtime: Runtime, network: nn.Cell, train_set: Dataset, val_set: Dataset | None
) -> tuple[TrainingParts, TrainStream]:
    data, anchors = config.data, config.model.anchor_set
    num_classes = len(train_set.class_names)
    assign = Assigner(
        anchors, data.img_size, num_classes, data.max_truths, config.loss.anchor_threshold
    )
    samples = TrainSamples(train_set, data, config.seed, config.train.epochs)
    stream = TrainStream(
        samples,
        assign,
        config.train.per_batch_size,
        data.num_workers,
        runtime.rank,
        runtime.world_size,
    )
    network = to_mixed_precision(network, runtime.amp_level)
    loss = DetectionLoss(anchors, num_classes, data.img_size, config.loss)
    inference = InferenceForward(normaliser(data), network)
    evaluate = (
        (lambda: score(inference, val_set, config, runtime)[1]) if val_set is not None else None
    )
    card = record_to_tree(
        make_card(config, train_set.class_names, f"trained by mindyolo_v4 {__version__}")
    )
    forward = TrainingForward(normaliser(data), network, loss)
    return TrainingParts(
        forward, network, stream.batches, stream.steps_per_epoch, evaluate, card
    ), stream


def _describe_data(train_set: Dataset) -> str:
    boxes = sum(int((~record.ignore).sum()) for record in train_set.records)
    images, classes = len(train_set.records), len(train_set.class_names)
    return f"{train_set.source}: {images} images, {boxes} boxes, {classes} classes"


def _log_end(folder: Path, stream: TrainStream) -> None:
    report = stream.report()
    log_unreadable(report)
    if report["truths_dropped"]:
        logger.warning(
            "%d truths did not fit data.max_truths and were not trained", report["truths_dropped"]
        )
    plot_results(folder / "steps.csv", folder / "metrics.csv", folder / "results.png")
    log_end(folder)

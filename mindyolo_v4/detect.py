"""COCO-style detection, wired: files -> samples -> network -> loss -> checkpoint, and raw maps -> detections -> AP."""

from mindyolo_v4 import environment  # noqa: F401  first: it sets the process up before MindSpore or OpenCV loads

# isort: split
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn
from tqdm import tqdm

from mindyolo_v4 import __version__
from mindyolo_v4.anchors import anchor_set
from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.cards import config_for_checkpoint, make_card, read_card, take_over_variants
from mindyolo_v4.config import Tree, build_config, dump_config, merge_trees, record_to_tree
from mindyolo_v4.data.augment import TrainSamples
from mindyolo_v4.data.readers import read_split, warning_lines
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.data.stream import EvalStream, TrainStream
from mindyolo_v4.engine import checkpoint
from mindyolo_v4.engine.loop import fit
from mindyolo_v4.engine.optimizer import freeze
from mindyolo_v4.engine.run import TrainingParts, check_accumulation
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.nms import detect_objects
from mindyolo_v4.evaluation.report import format_metrics_table, plot_results
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.losses.detection import DetectionLoss
from mindyolo_v4.models.blocks import choose_fused
from mindyolo_v4.models.build import build_detector
from mindyolo_v4.models.describe import giga_flops, parameter_count
from mindyolo_v4.models.normalise import Normalise
from mindyolo_v4.runtime import (
    Runtime,
    choose_device,
    existing_run_folder,
    make_run_folder,
    peak_memory_gb,
    setup_logger,
    start,
    to_mixed_precision,
)
from mindyolo_v4.schema.card import Card
from mindyolo_v4.schema.data import DataConfig
from mindyolo_v4.schema.errors import UserError
from mindyolo_v4.schema.root import Config

logger = logging.getLogger(__name__)


class DetectionForward(nn.Cell):
    """Images and target tables -> the loss and its parts, as the training engine compiles it."""

    def __init__(self, normalise: nn.Cell, network: nn.Cell, loss: nn.Cell):
        super().__init__()
        self.normalise, self.network, self.loss = normalise, network, loss
        self.part_names = loss.part_names

    def construct(self, images: ms.Tensor, *tables: ms.Tensor) -> tuple[ms.Tensor, tuple[ms.Tensor, ...]]:
        """Return (total, (box, obj, cls)) of images (B, 3, S, S) uint8 and the assigner's tables."""
        return self.loss(self.network(self.normalise(images)), *tables)


class InferenceForward(nn.Cell):
    """Images (B, 3, S, S) uint8 -> raw maps, smallest stride first, each B x A(5+C) x H x W."""

    def __init__(self, normalise: nn.Cell, network: nn.Cell):
        super().__init__()
        self.normalise, self.network = normalise, network
        self.set_train(False)

    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Return the network's raw maps."""
        return self.network(self.normalise(images))


def train(tree: Tree, default_name: str, resume: str | None = None) -> int:
    """Train a detector as a configuration tree says; everything lands in the run folder. Return the exit status."""
    config = build_config(tree)
    runtime = start(config)
    card = read_card(config.weight, task=None) if config.weight else None
    config, taken_over = take_over_variants(config, tree, card) if card else (config, [])
    train_set = read_split(config.data, "train")
    config = replace(config, data=replace(config.data, names=list(train_set.class_names)))
    val_set = read_split(config.data, "val") if config.data.val is not None else None

    network = build_detector(config.model, len(train_set.class_names), config.seed)
    loaded = checkpoint.load_weights(config.weight, network, partial=True) if config.weight else None
    freeze(network, config.train.freeze)
    parts, stream = _training_parts(config, runtime, network, train_set, val_set)
    check_accumulation(parts, config.train)

    resume_from = _resume_from(resume, config.save_dir, default_name)
    folder = make_run_folder(config.save_dir, default_name, resume is not None)
    setup_logger(folder, runtime.rank)
    _log_start(config, runtime, network, train_set)
    for line in taken_over:
        logger.info("taken over from %s: %s", config.weight, line)
    if loaded is not None:
        logger.info("%s", loaded)
    if runtime.rank == 0:
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    fit(parts, config, runtime, folder, resume_from)
    if runtime.rank == 0:
        _log_end(folder, stream)
    return 0


def test(weight: str, recipe: Tree, overrides: Tree, exist_ok: bool = False) -> int:
    """Score a checkpoint on a split and write the results to the run folder. Return the exit status."""
    choose_device(build_config(merge_trees(recipe, overrides, "command line")).device_target)
    card = read_card(weight)
    config = config_for_checkpoint(weight, card, recipe, overrides)
    runtime = start(config)
    dataset = read_split(config.data, config.evaluate.split)
    _require_same_classes(card, dataset)
    folder = make_run_folder(config.save_dir, "test", exist_ok, permission="--exist_ok")
    setup_logger(folder, runtime.rank, "test.log")
    network, _ = load_detector(weight)
    network = to_mixed_precision(network, runtime.amp_level)
    logger.info("%s: %d images of %s", weight, len(dataset.records), dataset.source)
    evaluator, metrics = score(InferenceForward(_normalise(config.data), network), dataset, config, progress=True)
    results = {"metrics.json": metrics, "predictions.json": evaluator.predictions()}
    if config.data.format != "coco":
        results["ground_truth.json"] = evaluator.ground_truth()
    for name, content in results.items() if runtime.rank == 0 else ():
        (folder / name).write_text(json.dumps(content) + "\n", encoding="utf-8")
    logger.info("%s\nwritten to %s", format_metrics_table(metrics), folder)
    return 0


def load_detector(path: str | Path) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its weights (the averaged ones where it has them).

    The network is in inference mode, takes float32 images (B, 3, S, S) prepared as `card.preprocessing` says, and
    returns the raw maps, smallest stride first, each B x A(5+C) x H x W.

    Raises:
        UserError: the file is damaged, is no checkpoint of ours, or does not hold a detector.
    """
    card = read_card(path)
    # Fused operators are for training: nothing is to be compiled here, whatever the run that trained it asked for.
    network = build_detector(replace(card.model, cpu_fused="off"), len(card.class_names))
    checkpoint.load_weights(path, network)
    network.set_train(False)
    return network, card


def score(
    forward: nn.Cell, dataset: Dataset, config: Config, progress: bool = False
) -> tuple[CocoEvaluator, dict[str, Any]]:
    """Run a data set through the network and score its detections in original pixels.

    Returns:
        The evaluator, and its metrics with the mean milliseconds an image of reading, network and NMS.
    """
    batch_size = config.evaluate.per_batch_size or config.train.per_batch_size
    stream = EvalStream(dataset, config.data, min(batch_size, len(dataset.records)), config.data.num_workers)
    anchors, evaluator = anchor_set(config.model), CocoEvaluator(dataset)
    spent = {"read_ms": 0.0, "network_ms": 0.0, "nms_ms": 0.0}
    bar = tqdm(total=len(dataset.records), unit="image", desc="validation", disable=None if progress else True)
    for raw_maps, indices in _timed_raw_maps(forward, stream, spent):
        started = time.perf_counter()
        for row, index in enumerate(indices):
            record = dataset.records[index]
            geometry = resize_geometry(config.data.resize, record.width, record.height, config.data.img_size)
            found = detect_objects([level[row] for level in raw_maps], anchors, config.evaluate)
            evaluator.add(int(index), found.to_original(geometry))
        spent["nms_ms"] += (time.perf_counter() - started) * 1000
        bar.update(len(indices))
    bar.close()
    _report_unreadable(stream.report())
    return evaluator, evaluator.metrics() | {name: ms_ / len(dataset.records) for name, ms_ in spent.items()}


def _timed_raw_maps(
    forward: nn.Cell, stream: EvalStream, spent: dict[str, float]
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    started = time.perf_counter()
    for images, indices in stream.batches():
        read = time.perf_counter()
        raw_maps = [level.asnumpy() for level in forward(images)]
        spent["read_ms"] += (read - started) * 1000
        spent["network_ms"] += (time.perf_counter() - read) * 1000
        yield raw_maps, indices
        started = time.perf_counter()


def _training_parts(
    config: Config, runtime: Runtime, network: nn.Cell, train_set: Dataset, val_set: Dataset | None
) -> tuple[TrainingParts, TrainStream]:
    data, anchors = config.data, anchor_set(config.model)
    num_classes = len(train_set.class_names)
    assign = Assigner(anchors, data.img_size, num_classes, data.max_truths, config.loss.anchor_threshold)
    samples = TrainSamples(train_set, data, config.seed, config.train.epochs)
    stream = TrainStream(
        samples, assign, config.train.per_batch_size, data.num_workers, runtime.rank, runtime.world_size
    )
    network = to_mixed_precision(network, runtime.amp_level)
    loss = DetectionLoss(anchors, num_classes, data.img_size, config.loss)
    inference = InferenceForward(_normalise(data), network)
    evaluate = (lambda: score(inference, val_set, config)[1]) if val_set is not None else None
    card = record_to_tree(make_card(config, train_set.class_names, f"trained by mindyolo_v4 {__version__}"))
    forward = DetectionForward(_normalise(data), network, loss)
    return TrainingParts(forward, network, stream.batches, stream.steps_per_epoch, evaluate, card), stream


def _normalise(data: DataConfig) -> nn.Cell:
    return Normalise(data.mean, data.std)


def _require_same_classes(card: Card, dataset: Dataset) -> None:
    if dataset.class_names != card.class_names:
        raise UserError(
            "data.names", "not the classes of the checkpoint", list(dataset.class_names), list(card.class_names)
        )


def _resume_from(resume: str | None, save_dir: str | None, default_name: str) -> Path | None:
    if resume is None:
        return None
    path = Path(resume)
    if resume == "auto":
        path = checkpoint.newest_valid(existing_run_folder(save_dir, default_name))
    checkpoint.load_card(path)  # a damaged file is told before anything is written
    return path


def _log_start(config: Config, runtime: Runtime, network: nn.Cell, train_set: Dataset) -> None:
    for note in runtime.notes:
        logger.info("%s", note)
    logger.info(
        "%s, %s mode, jit level %s, mixed precision %s, %d device(s) x %d images x %d accumulated",
        runtime.device_target,
        runtime.ms_mode,
        runtime.jit_level,
        runtime.amp_level,
        runtime.world_size,
        config.train.per_batch_size,
        config.train.accumulate,
    )
    logger.info("batch normalisation with activation while training: %s", choose_fused(config.model.cpu_fused)[1])
    count, size = parameter_count(network), config.data.img_size
    name = config.model.architecture
    logger.info("%s: %s parameters, %.3f GFLOPs at %d px", name, f"{count:,}", giga_flops(network, size), size)
    boxes = sum(int((~record.ignore).sum()) for record in train_set.records)
    classes = len(train_set.class_names)
    logger.info("%s: %d images, %d boxes, %d classes", train_set.source, len(train_set.records), boxes, classes)
    for line in warning_lines(train_set):
        logger.warning("%s", line)


def _report_unreadable(report: dict[str, Any]) -> None:
    for path, count in report["unreadable"].items():
        logger.warning("%s: could not be decoded (%d times)", path, count)


def _log_end(folder: Path, stream: TrainStream) -> None:
    report = stream.report()
    _report_unreadable(report)
    if report["truths_dropped"]:
        logger.warning("%d truths did not fit data.max_truths and were not trained", report["truths_dropped"])
    plot_results(folder / "steps.csv", folder / "metrics.csv", folder / "results.png")
    logger.info("peak memory %.2f GB; run folder: %s", peak_memory_gb(), folder)

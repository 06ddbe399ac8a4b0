"""ImageNet classification, wired: files -> samples -> network -> loss -> checkpoint, and logits -> Acc@1 and Acc@5."""

from mindyolo_v4 import environment  # noqa: F401  first: it sets the process up before MindSpore or OpenCV loads

# isort: split
import json
import logging
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4 import __version__
from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.settings import config_for_checkpoint, make_card, read_card
from mindyolo_v4.config.recipe import Tree, build_config, merge_trees, record_to_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.loader.stream import EvalStream, TrainStream
from mindyolo_v4.data.readers.mindrecord import read_classes
from mindyolo_v4.distributed.collectives import leave_together
from mindyolo_v4.engine.optimizer import freeze
from mindyolo_v4.engine.session import TrainingParts
from mindyolo_v4.evaluation.report import CLASSIFICATION_CURVES, plot_results
from mindyolo_v4.evaluation.top_k import TopK, format_top_k, top_k_metrics
from mindyolo_v4.losses.classification import ClassificationLoss
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.forward import InferenceForward, TrainingForward, normaliser
from mindyolo_v4.runtime.device import (
    Runtime,
    choose_device,
    make_run_folder,
    setup_logger,
    start,
    sum_over_ranks,
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
    """Train a classifier as a configuration tree says; everything lands in the run folder. Return the exit status."""
    config = build_config(tree)
    runtime = start(config)
    config, taken_over = take_over(
        config, tree, read_card(config.weight) if config.weight else None
    )
    train_set = read_classes(config.data, "train")
    val_set = read_classes(config.data, "val") if config.data.val is not None else None
    config = replace(config, data=replace(config.data, names=list(train_set.class_names)))

    network = build_network(config.model, len(train_set.class_names), config.seed)
    loaded = (
        [checkpoint.load_weights(config.weight, network, partial=True)] if config.weight else []
    )
    freeze(network, config.train.freeze)
    about = f"{train_set.source}: {len(train_set)} images, {len(train_set.class_names)} classes"
    lines = [*describe_start(config, runtime, network), about, *taken_over, *map(str, loaded)]
    parts, stream = _training_parts(config, runtime, network, train_set, val_set)
    folder = run_training(parts, config, runtime, default_name, resume, lines, train_set.warnings)
    if runtime.rank == 0:
        log_unreadable(stream.report())
        tables = folder / "steps.csv", folder / "metrics.csv"
        plot_results(*tables, folder / "results.png", CLASSIFICATION_CURVES, top=100.0)
        log_end(folder)
    leave_together(runtime.world_size)
    return 0


def test(weight: str, recipe: Tree, overrides: Tree, exist_ok: bool = False) -> int:
    """Score a checkpoint on a split and write `metrics.json` to the run folder. Return the exit status."""
    choose_device(build_config(merge_trees(recipe, overrides, "command line")).device_target)
    card = read_card(weight, "classify")
    config = config_for_checkpoint(weight, card, recipe, overrides)
    runtime = start(config)
    dataset = read_classes(config.data, config.evaluate.split)
    require_same_classes(card, dataset.class_names)
    folder = make_run_folder(config.save_dir, "test", exist_ok, permission="--exist_ok")
    setup_logger(folder, runtime.rank, "test.log", runtime.world_size)
    network, _ = load_classifier(weight)
    network = to_mixed_precision(network, runtime.amp_level)
    logger.info("%s: %d images of %s", weight, len(dataset), dataset.source)
    metrics = score(
        InferenceForward(normaliser(config.data), network), dataset, config, runtime, progress=True
    )
    if runtime.rank == 0:
        (folder / "metrics.json").write_text(json.dumps(metrics) + "\n", encoding="utf-8")
    logger.info("written to %s", folder)
    leave_together(runtime.world_size)
    return 0


def load_classifier(path: str | Path) -> tuple[nn.Cell, Card]:
    """Build the network that a checkpoint describes, with its weights (the averaged ones where it has them).

    The network is in inference mode, takes float32 images (B, 3, S, S) prepared as `card.preprocessing` says, and
    returns logits (B, C).

    Raises:
        UserError: the file is damaged, is no checkpoint of ours, or does not hold a classifier.
    """
    return load_network(path, "classify")


def score(
    forward: nn.Cell, dataset: ClassImages, config: Config, runtime: Runtime, progress: bool = False
) -> dict[str, float]:
    """Run every image of a data set through the network once, shared between the devices; log and return the metrics.

    Returns:
        acc1 and acc5 in percent and images, over all devices; read_ms and network_ms, the mean an image on this one.
    """
    batch_size = config.evaluate.per_batch_size or config.train.per_batch_size
    batch_size = min(batch_size, -(-len(dataset) // runtime.world_size))
    rank, world_size = runtime.rank, runtime.world_size
    stream = EvalStream(dataset, config.data, batch_size, config.data.num_workers, rank, world_size)
    counter, spent = TopK(), {"read_ms": 0.0, "network_ms": 0.0}
    bar = tqdm(
        total=len(dataset) // world_size,
        unit="image",
        desc="validation",
        disable=None if progress else True,
    )
    for logits, indices in timed_outputs(lambda images: forward(images).asnumpy(), stream, spent):
        counter.add(logits[: len(indices)], dataset.class_ids[indices])
        bar.update(len(indices))
    bar.close()
    log_unreadable(stream.report())
    own = max(counter.counts[0], 1)
    metrics = top_k_metrics(sum_over_ranks(counter.counts, world_size))
    logger.info("%s", format_top_k(metrics))
    return metrics | {name: value / own for name, value in spent.items()}


def _training_parts(
    config: Config,
    runtime: Runtime,
    network: nn.Cell,
    train_set: ClassImages,
    val_set: ClassImages | None,
) -> tuple[TrainingParts, TrainStream]:
    data = config.data
    samples = ClassTrainSamples(train_set, data, config.seed)
    stream = TrainStream(
        samples,
        _targets,
        config.train.per_batch_size,
        data.num_workers,
        runtime.rank,
        runtime.world_size,
    )
    network = to_mixed_precision(network, runtime.amp_level)
    loss = ClassificationLoss(len(train_set.class_names), config.loss)
    inference = InferenceForward(normaliser(data), network)
    evaluate = (lambda: score(inference, val_set, config, runtime)) if val_set is not None else None
    card = record_to_tree(
        make_card(config, train_set.class_names, f"trained by mindyolo_v4 {__version__}")
    )
    forward = TrainingForward(normaliser(data), network, loss)
    parts = TrainingParts(
        forward, network, stream.batches, stream.steps_per_epoch, evaluate, card, best_metric="acc1"
    )
    return parts, stream


def _targets(class_ids: NDArray[np.int32], shares: NDArray[np.float32]) -> tuple[np.ndarray, ...]:
    """Hand a sample's classes (M,) and shares (M,) to the loss as they are."""
    return class_ids, shares


def probabilities(forward: nn.Cell, image: np.ndarray) -> NDArray[np.float64]:
    """Return the softmax (C,) of the logits of one fitted image (S, S, 3) uint8."""
    logits = (
        forward(ms.Tensor(np.ascontiguousarray(image.transpose(2, 0, 1))[None]))
        .asnumpy()[0]
        .astype(np.float64)
    )
    scaled = np.exp(logits - logits.max())
    return scaled / scaled.sum()

"""A training without a data set: the product's own session, and a batch of random images."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from mindspore import Tensor

from mindyolo_v4 import classify, detect
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.augment.classification import most_images
from mindyolo_v4.engine.micro_batches import MicroBatch
from mindyolo_v4.engine.optimizer import freeze, recompute
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.task import Task, TrainingParts
from mindyolo_v4.engine.training import training_cells
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.runtime.device import Runtime

BOXES_PER_IMAGE = 30  # about a mosaic of four COCO images


def without_data(config: Config) -> Config:
    """Replace the anchors `auto`, which only a data set can tell, by squares of other sizes."""
    model = config.model
    if model.anchors_wh_px != "auto":
        return config
    sides = [16.0 * (number + 1) for number in range(max(model.used_anchors) + 1)]
    pairs = tuple((side, side) for side in sides)
    return replace(config, model=replace(model, anchors_wh_px=pairs))


def training_session(
    config: Config, runtime: Runtime, classes: int, steps_per_epoch: int
) -> Session:
    """Return the training that a configuration describes, from random weights and without data."""
    task = task_of(config)
    network = task.build(config.model, classes, config.seed)
    freeze(network, config.train.freeze)
    recompute(network, config.train.recompute)
    network, forward, alter = training_cells(task, config, runtime, network, classes)
    forward.set_train(True)

    def no_batches(start: int, stop: int) -> Iterator[MicroBatch]:
        return iter(())  # is never asked

    parts = TrainingParts(forward, network, no_batches, steps_per_epoch, None, {}, alter)
    config = replace(config, train=replace(config.train, patience=None))  # nothing validates
    return Session(parts, config, runtime)


def task_of(config: Config) -> Task:
    """Return the task that the configuration's model is for."""
    return classify.TASK if config.model.task == classify.TASK.name else detect.TASK


def random_batch(config: Config, classes: int, rank: int = 0) -> MicroBatch:
    """Return random images of side data.img_size with random boxes, or with random classes."""
    size = config.data.img_size
    count = config.train.per_batch_size
    rng = np.random.default_rng((config.seed, rank))
    images = Tensor(rng.integers(0, 256, (count, 3, size, size), np.uint8))
    if task_of(config) is classify.TASK:
        mixed = most_images(config.data.classify)
        class_ids = rng.integers(0, classes, (count, mixed), np.int32)
        return images, Tensor(class_ids), Tensor(np.full((count, mixed), 1 / mixed, np.float32))
    assign = Assigner(
        config.model.anchor_set, size, classes, config.data.max_truths, config.loss.anchor_threshold
    )
    tables = [assign(*_random_boxes(rng, classes)) for _ in range(count)]
    return images, *(Tensor(np.stack(column)) for column in zip(*tables, strict=True))


def _random_boxes(rng: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, 4), centre and size as fractions of the side, and classes (N,)."""
    sizes = np.exp(rng.uniform(np.log(0.02), np.log(0.5), (BOXES_PER_IMAGE, 2)))
    centres = rng.uniform(sizes / 2, 1 - sizes / 2)
    boxes = np.concatenate([centres, sizes], axis=1)
    return boxes, rng.integers(0, classes, BOXES_PER_IMAGE)

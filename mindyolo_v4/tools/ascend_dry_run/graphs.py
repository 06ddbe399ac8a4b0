"""The graphs that training and evaluation by a configuration compile, made by the product's code.

The data set is not read: the batch holds zeros of the shapes that the loader would deliver.
"""

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindyolo_v4 import classify, detect
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.augment.classification import most_images
from mindyolo_v4.engine.optimizer import freeze, recompute
from mindyolo_v4.engine.session import MicroBatch, Session, TrainingParts
from mindyolo_v4.engine.task import Task
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.precision import to_mixed_precision

CLASSES = {"detect": 80, "classify": 1000}


def graph_compilers(config: Config, runtime: Runtime) -> dict[str, Callable[[], None]]:
    """Return what compiles each graph, by its name in `run.GRAPHS`.

    step: gradients and update, or only the gradients' sum where `train.accumulate` is above 1;
    apply: then the update; evaluation: the forward pass; statistics: the mean of the running
    statistics over the devices.
    """
    task = classify.TASK if config.model.task == classify.TASK.name else detect.TASK
    network = task.build(config.model, CLASSES[task.name], config.seed)
    freeze(network, config.train.freeze)
    recompute(network, config.train.recompute)
    network = to_mixed_precision(network, runtime.amp_level, runtime.amp_dtype)
    batch = empty_batch(config)
    session = _session(task, config, runtime, network)

    def step() -> None:
        session.parts.forward.set_train(True)
        if config.train.accumulate > 1:
            session.train_step.add.compile(*batch)
        else:
            session.train_step.compile(0.0, batch)

    def apply() -> None:
        session.train_step.apply.compile(Tensor(0.0, ms.float32))

    def evaluation() -> None:
        session.parts.forward.set_train(False)
        task.inference(config, network).compile(batch[0])

    def statistics() -> None:
        session.train_step.share_statistics.compile()

    return {"step": step, "apply": apply, "evaluation": evaluation, "statistics": statistics}


def trained_parameters(config: Config) -> int:
    """Return how many parameters the optimizer of a configuration moves."""
    task = classify.TASK if config.model.task == classify.TASK.name else detect.TASK
    network = task.build(config.model, CLASSES[task.name], config.seed)
    freeze(network, config.train.freeze)
    return len(network.trainable_params())


def empty_batch(config: Config) -> MicroBatch:
    """Return zeros for the images (B, 3, S, S) uint8 and the targets of one micro-batch."""
    images = config.train.per_batch_size
    side = config.data.img_size
    if config.model.task == "detect":
        assign = Assigner(
            config.model.anchor_set,
            side,
            CLASSES["detect"],
            config.data.max_truths,
            config.loss.anchor_threshold,
        )
        targets: tuple[np.ndarray, ...] = assign(np.zeros((0, 4)), np.zeros(0, np.int64))
    else:
        classes = most_images(config.data.classify)
        targets = (np.zeros(classes, np.int32), np.zeros(classes, np.float32))
    rows = (np.zeros((3, side, side), np.uint8), *targets)
    return tuple(Tensor(np.zeros((images, *row.shape), row.dtype)) for row in rows)


def _session(task: Task, config: Config, runtime: Runtime, network: nn.Cell) -> Session:
    parts = TrainingParts(
        forward=task.forward(config, network, CLASSES[task.name]),
        network=network,
        batches=lambda start, stop: iter(()),
        steps_per_epoch=config.train.accumulate,
        evaluate=None,
        card={},
    )
    return Session(parts, config, runtime)

"""The graphs that training and evaluation by a configuration compile."""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor

from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.optimizer import freeze
from mindyolo_v4.engine.sat import as_float32
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.tools.random_training import random_batch, task_of, training_session, without_data

CLASSES = {"detect": 80, "classify": 1000}


def graph_compilers(config: Config, runtime: Runtime) -> dict[str, Callable[[], None]]:
    """Return what compiles each graph, by its name in `run.GRAPHS`.

    step: gradients and update, or only the gradients' sum where `train.accumulate` is above 1;
    apply: then the update; evaluation: the forward pass; statistics: the mean of the running
    statistics over the devices; alter: the images of self-adversarial training, where it is on.
    """
    config = without_data(config)
    task = task_of(config)
    classes = CLASSES[task.name]
    session = training_session(config, runtime, classes, config.train.accumulate)
    batch = random_batch(config, classes)
    adversary = session.adversary

    def step() -> None:
        session.parts.forward.set_train(True)
        images = batch if adversary is None else as_float32(batch)
        if config.train.accumulate > 1:
            session.train_step.add[config.train.accumulate].compile(*images)
        else:
            session.train_step.compile(0.0, images)

    def apply() -> None:
        session.train_step.apply.compile(Tensor(0.0, ms.float32))

    def evaluation() -> None:
        session.parts.forward.set_train(False)
        task.inference(config, session.parts.network).compile(batch[0])

    def statistics() -> None:
        session.train_step.share_statistics.compile()

    def alter() -> None:
        assert adversary is not None
        adversary.compile(batch)

    return {
        "step": step,
        "apply": apply,
        "evaluation": evaluation,
        "statistics": statistics,
        "alter": alter,
    }


def trained_parameters(config: Config) -> int:
    """Return how many parameters the optimizer of a configuration moves."""
    task = task_of(config)
    network = task.build(config.model, CLASSES[task.name], config.seed)
    freeze(network, config.train.freeze)
    return len(network.trainable_params())

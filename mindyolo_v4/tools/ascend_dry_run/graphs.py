"""The graphs that training and evaluation by a configuration compile."""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor

from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.micro_batches import MicroBatch, stand_in
from mindyolo_v4.engine.sat import as_float32
from mindyolo_v4.engine.session import Session
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.tools.ascend_dry_run.run import name_at
from mindyolo_v4.tools.random_training import random_batch, task_of, training_session, without_data

CLASSES = {"detect": 80, "classify": 1000}


def graph_compilers(config: Config, runtime: Runtime) -> dict[str, Callable[[], None]]:
    """Return what compiles each graph, by its name in `run.GRAPHS`.

    step: gradients and update, or only the gradients' sum where a step has several micro-batches;
    apply: then the update; evaluation: the forward pass; statistics: the mean of the running
    statistics over the devices; alter: the images of self-adversarial training, where it is on.
    With several sizes, step and alter are there for each size (`run.name_at`).
    """
    config = without_data(config)
    task = task_of(config)
    classes = CLASSES[task.name]
    session = training_session(config, runtime, classes, config.train.accumulate)
    batch = random_batch(config, classes)

    def apply() -> None:
        session.train_step.apply.compile(Tensor(0.0, ms.float32))

    def evaluation() -> None:
        session.parts.forward.set_train(False)
        task.inference(config, session.parts.network).compile(batch[0])

    def statistics() -> None:
        session.train_step.share_statistics.compile()

    compilers = {"apply": apply, "evaluation": evaluation, "statistics": statistics}
    for size in session.step_batches.parts:
        step, alter = _sized_compilers(session, batch, size)
        compilers |= {name_at("step", size, config): step, name_at("alter", size, config): alter}
    return compilers


def _sized_compilers(
    session: Session, batch: MicroBatch, size: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what compiles `step` and `alter` for images of a side, in batches as a training's."""
    parts = session.step_batches.parts[size]
    count = session.step_batches.accumulate * parts
    batch = stand_in(batch, size, len(batch[0]) // parts)
    adversary = session.adversary

    def step() -> None:
        session.parts.forward.set_train(True)
        images = batch if adversary is None else as_float32(batch)
        if count > 1:
            session.train_step.add[count].compile(*images)
        else:
            session.train_step.compile(0.0, images, count)

    def alter() -> None:
        assert adversary is not None
        adversary.compile(batch)

    return step, alter

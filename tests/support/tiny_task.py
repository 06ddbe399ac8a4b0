"""A training of the tiny network, and what its folder then holds."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from mindspore import Tensor

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import OptimizerConfig, ScheduleConfig, TrainConfig
from mindyolo_v4.engine import loop
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.task import TrainingParts
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.signals import StopSignals
from tests.support.tiny import TinyForward, TinyNet, tiny_batch

RUNTIME = Runtime("CPU", "graph", "O0", "O0")


def config(**train) -> Config:
    return Config(
        optimizer=OptimizerConfig(lr=0.05),
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(**({"epochs": 2, "per_batch_size": 2} | train)),
    )


def fit(
    parts: TrainingParts,
    config: Config,
    runtime: Runtime,
    folder: Path,
    resumed: Checkpoint | None = None,
    signals: StopSignals | None = None,
) -> Session:
    """Train from the beginning, or from a checkpoint."""
    session = Session(parts, config, runtime)
    for line in session.resume(resumed) if resumed else ():
        logging.getLogger("mindyolo_v4").info("%s", line)
    loop.fit(session, folder, signals)
    return session


class Task:
    """A tiny network, its numbered batches, and a record of what was asked for."""

    def __init__(
        self,
        steps_per_epoch: int = 4,
        spoiled: tuple[int, ...] = (),
        scores: tuple[float, ...] = (),
    ):
        self.network = TinyNet()
        self.steps_per_epoch = steps_per_epoch
        self.spoiled = spoiled
        self.scores = list(scores)
        self.asked: list[int] = []
        self.scored: list[np.ndarray] = []

    def batches(self, start: int, stop: int):
        for number in range(start, stop):
            self.asked.append(number)
            x, target = tiny_batch(number)
            if number in self.spoiled:
                x = Tensor(np.full_like(x.asnumpy(), np.nan))
            yield x, target

    def evaluate(self, check):
        assert not self.network.training
        self.scored.append(self.network.head.bias.asnumpy().copy())
        value = self.scores.pop(0) if self.scores else float(len(self.scored))
        return {"AP": value, "per_class": [{"class_id": 0, "AP": value}]}

    def parts(self, **changes) -> TrainingParts:
        forward = TrainingParts(
            TinyForward(self.network),
            self.network,
            self.batches,
            self.steps_per_epoch,
            self.evaluate,
            {"task": "detect"},
        )
        return replace(forward, **changes)

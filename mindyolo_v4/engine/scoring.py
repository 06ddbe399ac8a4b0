"""Scoring a network on a split: the batches, the time that each part takes, the bar."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from mindspore import nn
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.task import EvalBatches, ImageLoss, Scores, Split, Task, log_left_out
from mindyolo_v4.runtime.device import Runtime


class Scorer:
    """Runs every image of a split through a network once per call, shared between the devices.

    Args:
        loss: of images, where the validations of a training compute it.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        network: nn.Cell,
        split: Split,
        runtime: Runtime,
        loss: ImageLoss | None = None,
    ):
        self.task = task
        self.config = config
        self.forward = task.inference(config, network)
        self.split = split
        self.runtime = runtime
        self.loss = loss

    def __call__(self, check: Callable[[], None], for_test: bool = False) -> Scores:
        """Score the network as it is now.

        To the task's metrics come `unreadable`, the images that were scored as plain grey, and the
        mean milliseconds per image of each part on this device.

        Args:
            check: called between two batches.
            for_test: show a bar, and return the files that test.py writes.
        """
        config = self.config
        ranks = self.runtime.ranks
        images = len(self.split)
        size = eval_batch_size(config, images, self.runtime)
        stream = self.task.eval_stream(config, self.split, size, ranks)
        one_pass = ScoringPass(
            self.forward, stream, images, self.runtime, check, for_test, self.loss
        )
        scores = self.task.score(config, self.split, one_pass, for_test)

        report = stream.report()
        log_left_out(report)
        (unreadable,) = ranks.sum([len(report["unreadable"])])
        scores.metrics.update(unreadable=unreadable, **one_pass.ms_per_image())
        return scores


def eval_batch_size(config: Config, images: int, runtime: Runtime) -> int:
    """Return the images per batch and device, no more than a device has."""
    wanted = config.evaluate.per_batch_size or config.train.per_batch_size
    return min(wanted, -(-images // runtime.ranks.size))


@dataclass
class ScoringPass:
    """One pass over a split, shared between the devices."""

    forward: nn.Cell
    stream: EvalBatches
    images: int  # of all devices
    runtime: Runtime
    check: Callable[[], None]  # called between two batches
    show_bar: bool
    loss: ImageLoss | None = None
    spent_ms: dict[str, float] = field(default_factory=lambda: {"read_ms": 0.0, "network_ms": 0.0})

    def outputs(self) -> Iterator[tuple[list[np.ndarray], NDArray[np.int64]]]:
        """Yield the network's outputs for each batch on the host, and the numbers in it."""
        show = self.show_bar and self.runtime.ranks.rank == 0
        bar = tqdm(
            total=len(self.stream),
            unit="image",
            desc="validation",
            disable=None if show else True,  # None: shown on a terminal only
        )
        compiled: set[tuple[int, ...]] = set()  # a graph per shape
        heartbeat = self.runtime.heartbeat
        since_s = time.perf_counter()
        with heartbeat.work("validation"), bar, closing(self.stream.batches()) as batches:
            for images, indices in batches:
                self.check()
                read_s = time.perf_counter()
                if images.shape not in compiled:
                    compiled.add(images.shape)
                    heartbeat.expect("compiling")
                output = self.forward(images)
                levels = output if isinstance(output, tuple) else (output,)
                arrays = [level.asnumpy() for level in levels]
                self.spent_ms["read_ms"] += (read_s - since_s) * 1000
                self.spent_ms["network_ms"] += (time.perf_counter() - read_s) * 1000
                yield arrays, indices
                bar.update(len(indices))
                heartbeat.beat()
                since_s = time.perf_counter()

    def ms_per_image(self) -> dict[str, float]:
        """Return the mean milliseconds per image of each part on this device."""
        ranks = self.runtime.ranks
        own = max(len(range(ranks.rank, self.images, ranks.size)), 1)
        return {name: value / own for name, value in self.spent_ms.items()}

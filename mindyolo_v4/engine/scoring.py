"""One pass of a network over a split: the batches, the time that each part takes, the bar."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray
from tqdm import tqdm

from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.task import log_unreadable
from mindyolo_v4.runtime.device import Runtime


class EvalBatches(Protocol):
    """Every image of a split once: images (B, 3, S, S), and the indices (n,) of the first n."""

    def batches(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]: ...

    def report(self) -> dict[str, Any]: ...


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
    spent_ms: dict[str, float] = field(default_factory=lambda: {"read_ms": 0.0, "network_ms": 0.0})

    def outputs(self) -> Iterator[tuple[list[np.ndarray], NDArray[np.int64]]]:
        """Yield the network's outputs for each batch on the host, and which images it holds."""
        show = self.show_bar and self.runtime.ranks.rank == 0
        bar = tqdm(
            total=self._own_images(),
            unit="image",
            desc="validation",
            disable=None if show else True,  # None: shown on a terminal only
        )
        is_compiled = False
        since_s = time.perf_counter()
        with bar, closing(self.stream.batches()) as batches:
            for images, indices in batches:
                self.check()
                read_s = time.perf_counter()
                heartbeat = self.runtime.heartbeat
                with nullcontext() if is_compiled else heartbeat.pause("compiling"):
                    output = self.forward(images)
                    levels = output if isinstance(output, tuple) else (output,)
                    arrays = [level.asnumpy() for level in levels]
                is_compiled = True
                self.spent_ms["read_ms"] += (read_s - since_s) * 1000
                self.spent_ms["network_ms"] += (time.perf_counter() - read_s) * 1000
                yield arrays, indices
                bar.update(len(indices))
                heartbeat.beat()
                since_s = time.perf_counter()
        log_unreadable(self.stream.report())

    def ms_per_image(self) -> dict[str, float]:
        """Return the mean milliseconds per image of each part on this device."""
        own = max(self._own_images(), 1)
        return {name: value / own for name, value in self.spent_ms.items()}

    def _own_images(self) -> int:
        ranks = self.runtime.ranks
        return len(range(ranks.rank, self.images, ranks.size))

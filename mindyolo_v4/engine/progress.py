"""The line that shows how a training proceeds: a bar on a terminal, or a log line at times."""

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mindyolo_v4.runtime.log import PACKAGE_LOGGER

logger = logging.getLogger(__name__)


class Progress:
    """Show epoch, loss and its parts, learning rate, images/s and the time left."""

    def __init__(
        self,
        part_names: Sequence[str],
        first_step: int,
        last_step: int,
        epochs: int,
        interval_s: float = 30.0,
    ):
        self.names = ["loss", *(name.removeprefix("loss_") for name in part_names)]
        self.first_step = first_step
        self.last_step = last_step
        self.epochs = epochs
        self.interval_s = interval_s
        self.started = self.printed = time.monotonic()
        self.resources = ExitStack()
        self.bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        if logger.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            self.resources.enter_context(logging_redirect_tqdm([PACKAGE_LOGGER]))
            line = "{desc}, step {n_fmt}/{total_fmt}, {remaining} left"
            bar = tqdm(
                total=self.last_step,
                initial=self.first_step,
                bar_format=line,
                desc="starting",
                mininterval=0.5,
                dynamic_ncols=True,
            )
            self.bar = self.resources.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()

    def set_end(self, last_step: int, epochs: int) -> None:
        """Show another end than the one expected until now."""
        self.last_step = last_step
        self.epochs = epochs
        if self.bar is not None:
            self.bar.total = last_step

    def restart_clock(self) -> None:
        """Leave what has passed until now, the compilation, out of the time that is expected."""
        self.started = self.printed = time.monotonic()
        if self.bar is not None:
            self.bar.unpause()

    def step(
        self, step: int, epoch: int, values: np.ndarray, learning_rate: float, images_per_s: float
    ) -> None:
        """Show the state after optimizer step `step` (from 1)."""
        pairs = zip(self.names, values, strict=True)
        losses = " ".join(f"{name} {value:.4g}" for name, value in pairs)
        speed = f"{images_per_s:.1f} images/s"
        text = f"epoch {epoch}/{self.epochs} {losses} lr {learning_rate:.3g} {speed}"
        if self.bar is not None:
            self.bar.set_description_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if step != self.last_step and now - self.printed < self.interval_s:
            return
        self.printed = now
        left = self._time_left(step, now)
        logger.info("step %d/%d %s, %s left", step, self.last_step, text, left)

    def _time_left(self, step: int, now: float) -> str:
        done = step - self.first_step
        seconds = (now - self.started) / max(done, 1) * (self.last_step - step)
        return str(timedelta(seconds=round(seconds)))

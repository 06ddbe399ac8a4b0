"""What every test does around its scoring: run folder, log, metrics, report, exit status."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mindyolo_v4.config.recipe import dump_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import StoppedError, UserError
from mindyolo_v4.runtime.files import remove_unfinished, write_json
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.process import Process
from mindyolo_v4.runtime.report_page import write_report
from mindyolo_v4.runtime.run_folder import make_run_folder, share
from mindyolo_v4.runtime.run_record import begin_record, command_line, end_record
from mindyolo_v4.runtime.signals import StopSignals

_NAMED_IMAGES = 10  # unreadable images that the log names

logger = logging.getLogger(__name__)


def log_unreadable(images: Sequence[str]) -> None:
    """Log what is wrong with the first images, a line each, and how many more there are."""
    for line in images[:_NAMED_IMAGES]:
        logger.warning("%s", line)
    if len(images) > _NAMED_IMAGES:
        logger.warning("... and %d more images", len(images) - _NAMED_IMAGES)


class ScoredSplit(Protocol):
    """What is scored."""

    @property
    def source(self) -> str: ...

    def __len__(self) -> int: ...

    def warning_lines(self) -> Iterable[str]: ...


@dataclass(frozen=True)
class Scores:
    """What one pass over a split has found."""

    metrics: dict[str, Any]
    table: str  # the metrics as text
    files: dict[str, Any]  # what test.py writes besides metrics.json: file name -> JSON content
    # Draws the scores into a run folder: pictures, and tables beside them.
    draw: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class ScoringRun:
    """A test of one file of weights on one split.

    Args:
        title: of the report.
        device: what the network runs on, for run.json.
        exist_ok: take the run folder though it is not empty.
        allow_unreadable: a score over images that could not be read is not an error.
    """

    weights: Path
    title: str
    split: ScoredSplit
    config: Config
    runtime: Process
    device: Mapping[str, object]
    signals: StopSignals | None = None
    exist_ok: bool = False
    allow_unreadable: bool = False

    def __call__(self, score: Callable[[Callable[[], None]], Scores]) -> int:
        """Score, and write metrics.json, the task's files and the report. Return the exit status.

        Args:
            score: scores the split. It calls its argument between two batches, which may raise.

        Raises:
            UserError: images could not be read; all is written.
        """
        config = self.config
        ranks = self.runtime.ranks
        folder = make_run_folder(config.save_dir, "test", self.runtime, "--exist_ok", self.exist_ok)
        share(folder, self.runtime)
        setup_logger(folder, "test.log", ranks)
        logger.info("%s: %d images of %s", self.weights, len(self.split), self.split.source)
        for line in self.split.warning_lines():
            logger.warning("%s", line)
        if ranks.rank == 0:
            begin_record(folder, config.seed, self.device, self.exist_ok)

        started_s = time.monotonic()
        stop = self.signals or StopSignals()
        try:
            with stop.deferred(ranks, partial(remove_unfinished, folder)):
                scores = score(stop.check)
        except StoppedError as error:
            logger.warning("stopped by %s before all images were scored: no results", error)
            raise

        self.runtime.heartbeat.expect("writing the results")
        if ranks.rank == 0:
            self._write(folder, scores, started_s)
        logger.info("%s\nwritten to %s", scores.table, folder)
        unreadable = scores.metrics["unreadable"]
        images = f"{unreadable} of {len(self.split)} images"
        wrong = f"{images} could not be read and were scored as plain grey"
        if unreadable:
            logger.warning("%s", wrong)
        ranks.wait()  # one that left early would fail the others
        if unreadable and not self.allow_unreadable:
            self.runtime.heartbeat.done()
            expected = "--allow_unreadable if that is wanted"
            raise UserError(self.split.source, wrong, expected=expected)
        return 0

    def _write(self, folder: Path, scores: Scores, started_s: float) -> None:
        """Write metrics.json, the other files of a test, its pictures, its end and the report."""
        for name, content in {"metrics.json": scores.metrics, **scores.files}.items():
            write_json(folder / name, content)
        if scores.draw is not None:
            scores.draw(folder)
        test_seconds = round(time.monotonic() - started_s, 3)
        end_record(folder, {"images": len(self.split), "test_seconds": test_seconds})
        write_report(folder, self.title, command_line(), dump_config(self.config))

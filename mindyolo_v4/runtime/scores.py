"""What scoring a split has found, and how test.py writes it down."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindyolo_v4.runtime.files import write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """What one pass over a split has found."""

    metrics: dict[str, Any]
    table: str  # the metrics as text
    files: dict[str, Any]  # what test.py writes besides metrics.json: file name -> JSON content
    # Draws the scores into a run folder: pictures, and tables beside them.
    draw: Callable[[Path], None] | None = None


def write_scores(folder: Path, scores: Scores) -> None:
    """Write metrics.json, the other files of a test, and its pictures."""
    for name, content in {"metrics.json": scores.metrics, **scores.files}.items():
        write_json(folder / name, content)
    if scores.draw is not None:
        scores.draw(folder)


def log_scores(folder: Path, scores: Scores, images: int) -> str:
    """Log the table; return what is wrong with the scores of unreadable images, or ""."""
    logger.info("%s\nwritten to %s", scores.table, folder)
    unreadable = scores.metrics["unreadable"]
    if not unreadable:
        return ""
    wrong = f"{unreadable} of {images} images could not be read and were scored as plain grey"
    logger.warning("%s", wrong)
    return wrong

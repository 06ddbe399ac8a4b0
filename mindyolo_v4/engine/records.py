"""What a training writes besides checkpoints: steps.csv, metrics.csv, metrics.json, TensorBoard."""

import logging
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from mindyolo_v4.engine.tensorboard import TensorBoardFile
from mindyolo_v4.runtime.files import write_json, write_text

_POSITION = ("epoch", "step")  # columns of both tables

logger = logging.getLogger(__name__)


class Records:
    """Rows and scalars of one run folder; a row is in its file when the call returns.

    Args:
        resumed: the epoch and step from which a training goes on, as the run before counted; rows
            behind them are dropped first.
        writes: False on all ranks but the first.
    """

    def __init__(
        self,
        folder: Path,
        part_names: Sequence[str],
        resumed: tuple[int, int] = (0, 0),
        writes: bool = True,
    ):
        self.folder = folder
        self.writes = writes
        self.names = ["loss", *part_names, "lr", "images_per_s"]  # of the values of a step
        self.step_columns = ["step", "epoch", *self.names]
        if not writes:
            return
        steps = _rows_up_to(folder / "steps.csv", resumed)
        write_text(folder / "steps.csv", _table(self.step_columns, steps))
        self.validations = _rows_up_to(folder / "metrics.csv", resumed)
        self._write_validations()
        self.board = TensorBoardFile(folder / "tensorboard", purge_step=resumed[1] + 1)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writes:
            self.board.close()

    def step(
        self, step: int, epoch: int, values: np.ndarray, learning_rate: float, images_per_s: float
    ) -> None:
        """Add a row of steps.csv; float32 losses are written so that they read back bit for bit."""
        if not self.writes:
            return
        row = [*map(str, (step, epoch, *values)), repr(float(learning_rate)), f"{images_per_s:.3f}"]
        with (self.folder / "steps.csv").open("a", encoding="utf-8", newline="") as file:
            file.write(",".join(row) + "\n")
        numbers = [*values.tolist(), learning_rate, images_per_s]
        scalars = dict(zip(self.names, numbers, strict=True))
        self.board.add("train", scalars, step)

    def metrics(
        self, step: int, epoch: int, train_seconds: float, metrics: Mapping[str, Any]
    ) -> None:
        """Add a row of metrics.csv with the scalar metrics; an undefined one is an empty cell."""
        if not self.writes:
            return
        row = {"epoch": str(epoch), "step": str(step), "train_seconds": f"{train_seconds:.3f}"}
        scalars = {}
        for name, value in metrics.items():
            if isinstance(value, Real):
                scalars[name] = float(value)
                row[name] = repr(float(value))
            elif value is None:
                row[name] = ""
        self.validations.append(row)
        self._write_validations()
        self.board.add("val", scalars, step)

    def best(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json: the metrics of the best checkpoint."""
        if self.writes:
            write_json(self.folder / "metrics.json", dict(metrics), indent=1)

    def _write_validations(self) -> None:
        """Write metrics.csv anew: a resumed training may bring columns that it did not have."""
        columns = list(dict.fromkeys(name for row in self.validations for name in row))
        path = self.folder / "metrics.csv"
        if columns:
            write_text(path, _table(columns, self.validations))
        else:
            path.unlink(missing_ok=True)


def _rows_up_to(path: Path, end: tuple[int, int]) -> list[dict[str, str]]:
    """Return a table's rows up to an epoch and step. What a killed process left of a row is none.

    Another number of devices counts other steps, so they are compared inside the epoch only, and
    the last row that fits ends the table.
    """
    if end == (0, 0) or not path.exists():
        return []
    header, *lines = path.read_text("utf-8", errors="replace").split("\n")
    columns = header.split(",")
    lines = lines[:-1]  # the last one is empty, or unfinished
    cells = [line.split(",") for line in lines]
    whole = [row for row in cells if len(row) == len(columns)]
    rows = [dict(zip(columns, row, strict=True)) for row in whole]
    number = re.compile(r"[0-9]{1,15}")
    rows = [row for row in rows if all(number.fullmatch(row.get(key, "")) for key in _POSITION)]
    if len(rows) < len(lines):
        logger.warning("%s: %d damaged lines are left out", path, len(lines) - len(rows))
    positions = [tuple(int(row[key]) for key in _POSITION) for row in rows]
    counts = [count for count, position in enumerate(positions, 1) if position <= end]
    return rows[: max(counts, default=0)]


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)

"""What a training writes besides checkpoints: steps.csv, metrics.csv, metrics.json, TensorBoard."""

import csv
import io
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from mindyolo_v4.engine.board import Board
from mindyolo_v4.runtime.files import write_json, write_text


class Records:
    """Rows and scalars of one run folder; a row is in its file when the call returns.

    Args:
        resumed_step: rows behind this step are dropped first.
        writes: False on all ranks but the first.
    """

    def __init__(
        self, folder: Path, part_names: Sequence[str], resumed_step: int = 0, writes: bool = True
    ):
        self.folder = folder
        self.writes = writes
        self.step_columns = ["step", "epoch", "loss", *part_names, "lr", "images_per_s"]
        if not writes:
            return
        steps = _rows_up_to(folder / "steps.csv", resumed_step)
        write_text(folder / "steps.csv", _table(self.step_columns, steps))
        self.validations = _rows_up_to(folder / "metrics.csv", resumed_step)
        self._write_validations()
        self.board = Board(folder / "tensorboard", purge_step=resumed_step + 1)

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
        row = [step, epoch, *map(str, values), repr(float(learning_rate)), f"{images_per_s:.3f}"]
        with (self.folder / "steps.csv").open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
        numbers = [*values.tolist(), learning_rate, images_per_s]
        scalars = dict(zip(self.step_columns[2:], numbers, strict=True))
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


def _rows_up_to(path: Path, step: int) -> list[dict[str, str]]:
    """Return a table's rows up to a step. A row that a killed process left unfinished is none."""
    if step == 0 or not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = csv.DictReader(lines)
    columns = set(rows.fieldnames or ())
    whole = [row for row in rows if set(row) == columns and None not in row.values()]
    return [row for row in whole if "step" in row and int(row["step"]) <= step]


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

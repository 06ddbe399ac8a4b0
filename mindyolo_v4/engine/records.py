"""What a training writes besides checkpoints: steps.csv, metrics.csv, metrics.json, TensorBoard scalars."""

import csv
import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from mindyolo_v4.engine.board import Board
from mindyolo_v4.runtime.files import write_text


class RunFiles:
    """Rows and scalars of one run folder; every row is on disk when the call returns.

    After a resume the rows behind step `resumed_step` are dropped first. With `writes` False nothing is written.
    """

    def __init__(
        self, folder: Path, part_names: Sequence[str], resumed_step: int = 0, writes: bool = True
    ):
        self.folder, self.writes = folder, writes
        self.step_columns = ["step", "epoch", "loss", *part_names, "lr", "images_per_s"]
        if not writes:
            return
        for name in ("steps.csv", "metrics.csv"):
            _drop_rows_behind(folder / name, resumed_step)
        self.board = Board(folder / "tensorboard", purge_step=resumed_step + 1)

    def __enter__(self) -> "RunFiles":
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
        _append(self.folder / "steps.csv", self.step_columns, row)
        scalars = dict(
            zip(self.step_columns[2:], [*values.tolist(), learning_rate, images_per_s], strict=True)
        )
        self.board.add("train", scalars, step)

    def metrics(
        self, step: int, epoch: int, train_seconds: float, metrics: Mapping[str, Any]
    ) -> None:
        """Add a row of metrics.csv with the scalar metrics."""
        if not self.writes:
            return
        scalars = {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}
        columns = ["epoch", "step", "train_seconds", *scalars]
        row = [epoch, step, f"{train_seconds:.3f}", *map(repr, scalars.values())]
        _append(self.folder / "metrics.csv", columns, row)
        self.board.add("val", scalars, step)

    def best(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json: the metrics of the best checkpoint."""
        if self.writes:
            write_text(self.folder / "metrics.json", json.dumps(dict(metrics), indent=1) + "\n")


def _append(path: Path, columns: list[str], row: list[object]) -> None:
    fresh = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(columns)
        writer.writerow(row)


def _drop_rows_behind(path: Path, step: int) -> None:
    """Keep the header and the rows up to `step`; a half-written last row goes too."""
    if not path.exists():
        return
    if step == 0:
        path.unlink()
        return
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if "step" not in header:
        path.unlink()
        return
    place = header.index("step")
    kept = [row for row in rows if len(row) == len(header) and int(row[place]) <= step]
    write_text(path, "".join(",".join(row) + "\n" for row in [header, *kept]))

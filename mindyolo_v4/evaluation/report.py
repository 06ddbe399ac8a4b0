"""Curves of a run as one image, and metrics as a text table."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.evaluation.coco_metrics import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DETECTION_CURVES = {"AP": "AP", "AP50": "AP50"}  # column of metrics.csv -> its label
CLASSIFICATION_CURVES = {"acc1": "Acc@1", "acc5": "Acc@5"}  # percent
_NOTHING = np.zeros(0)
_SMOOTH_SHARE = 40  # the heavy line averages over this fraction of the steps


def plot_results(
    steps_csv: Path,
    metrics_csv: Path,
    png: Path,
    curves: Mapping[str, str] = DETECTION_CURVES,
    top: float = 1.0,
) -> None:
    """Draw loss and its parts, learning rate and validation curves into `png`.

    A missing, empty or half-written file gives an empty panel. Non-finite losses are left out; an
    empty cell or non-finite value of another column is a gap in its curve.

    Args:
        steps_csv: columns step, loss*, lr.
        metrics_csv: columns epoch and those of `curves`; where it has step and loss, the loss of
            the validations is drawn beside that of the steps.
        top: the best value that a curve can reach.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = read_columns(steps_csv)
    metrics = read_columns(metrics_csv)
    losses = {name: name for name in steps if name.startswith("loss")}
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    loss_axes, rate_axes, metric_axes = figure.subplots(1, 3)
    _plot_validation_loss(loss_axes, metrics)
    _plot(loss_axes, "loss", steps, "step", losses)
    _plot(rate_axes, "learning rate", steps, "step", {"lr": "learning rate"})
    _plot(metric_axes, "validation", metrics, "epoch", curves, marker="o")
    if loss_axes.lines and all(np.min(line.get_ydata()) > 0 for line in loss_axes.lines):
        loss_axes.set_yscale("log")
    metric_axes.set_ylim(0, top)
    metric_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(png, format="png")


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a CSV file of numbers into column name -> values; what is not a number is NaN."""
    text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    header, *rows = [line.split(",") for line in text.splitlines() if line] or [[]]
    table = [[_number(cell) for cell in row] for row in rows if len(row) == len(header)]
    columns = np.array(table, np.float64).reshape(-1, len(header) or 1).T
    return dict(zip(header, columns, strict=False))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _plot(
    axes: "Axes",
    title: str,
    table: dict[str, NDArray[np.float64]],
    x_name: str,
    labels: Mapping[str, str],
    marker: str = "",
) -> None:
    """Plot columns of a table over another; a loss as a pale line with its moving average."""
    axes.set_title(title)
    axes.set_xlabel(x_name)
    axes.grid(alpha=0.3)
    for index, (name, label) in enumerate(labels.items()):
        x = table.get(x_name, _NOTHING)
        y = table.get(name, _NOTHING)
        finite = np.isfinite(y)
        if not finite.any():
            continue
        if title == "loss":
            axes.plot(x[finite], y[finite], color=f"C{index}", alpha=0.25, linewidth=0.8)
            axes.plot(x[finite], smooth(y[finite]), color=f"C{index}", label=label)
        else:
            axes.plot(x, np.where(finite, y, np.nan), marker=marker, markersize=3, label=label)
    if axes.lines:
        axes.legend()
    else:
        where = axes.transAxes
        axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=where, color="grey")


def _plot_validation_loss(axes: "Axes", metrics: dict[str, NDArray[np.float64]]) -> None:
    """Plot the loss of the validations over the steps, in black."""
    loss = metrics.get("val_loss", _NOTHING)
    finite = np.isfinite(loss)
    if finite.any():
        steps = metrics["step"][finite]
        axes.plot(steps, loss[finite], "k-o", markersize=3, label="validation loss")


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centred moving average over 1/40 of the values; it narrows at both ends."""
    half = len(values) // (2 * _SMOOTH_SHARE)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low = np.maximum(index - half, 0)
    high = np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def format_metrics_table(metrics: dict[str, Any]) -> str:
    """Return the twelve numbers and the classes, best AP first, as aligned text.

    "-" is an undefined number; a last line says so where AP itself is undefined.

    Args:
        metrics: the result of `CocoEvaluator.metrics`; numbers that it lacks are left out.
    """
    names = [name for name in METRIC_NAMES if name in metrics]
    lines = ["  ".join(f"{name:>6}" for name in names)]
    lines.append("  ".join(f"{_cell(metrics[name]):>6}" for name in names))
    classes = metrics.get("per_class", [])
    if classes:
        width = max(len("class"), *(len(row["class_name"]) for row in classes))
        lines += ["", f"{'class':<{width}}  {'truths':>7}  {'AP':>6}  {'AP50':>6}"]
        for row in sorted(classes, key=lambda row: 1.0 if row["AP"] is None else -row["AP"]):
            numbers = f"{row['truths']:>7}  {_cell(row['AP']):>6}  {_cell(row['AP50']):>6}"
            lines.append(f"{row['class_name']:<{width}}  {numbers}")
    if metrics.get("AP", 0.0) is None:
        lines.append("AP undefined: no ground truth")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

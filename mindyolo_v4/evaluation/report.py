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
        metrics_csv: columns epoch and those of `curves`.
        top: the best value that a curve can reach.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = read_columns(steps_csv)
    metrics = read_columns(metrics_csv)
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    loss_axes, rate_axes, metric_axes = figure.subplots(1, 3)
    _plot_losses(loss_axes, steps)
    _plot_lines(rate_axes, steps, "step", {"lr": "learning rate"}, marker="")
    _plot_lines(metric_axes, metrics, "epoch", curves, marker="o")
    metric_axes.set_ylim(0, top)
    metric_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, title in zip(figure.axes, ("loss", "learning rate", "validation"), strict=True):
        axes.set_title(title)
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(str(png))


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a CSV file of numbers into column name -> values; what is no number is NaN."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    header, *rows = [line.split(",") for line in text.splitlines() if line] or [[]]
    table = [[_number(cell) for cell in row] for row in rows if len(row) == len(header)]
    columns = np.array(table, np.float64).reshape(-1, len(header) or 1).T
    return dict(zip(header, columns, strict=False))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _plot_losses(axes: "Axes", steps: dict[str, NDArray[np.float64]]) -> None:
    """Plot every loss column: the steps as a pale line, their moving average on top."""
    axes.set_xlabel("step")
    lowest = []
    for index, name in enumerate(name for name in steps if name.startswith("loss")):
        good = np.isfinite(steps[name])
        step = steps["step"][good]
        loss = steps[name][good]
        if len(loss):
            lowest.append(loss.min())
            axes.plot(step, loss, color=f"C{index}", alpha=0.25, linewidth=0.8)
            axes.plot(step, _smooth(loss), color=f"C{index}", label=name)
    if lowest and min(lowest) > 0:
        axes.set_yscale("log")
    _finish(axes)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centred moving average over 1/40 of the values; it narrows at both ends."""
    half = len(values) // (2 * _SMOOTH_SHARE)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low = np.maximum(index - half, 0)
    high = np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _plot_lines(
    axes: "Axes",
    table: dict[str, NDArray[np.float64]],
    x_name: str,
    labels: Mapping[str, str],
    marker: str,
) -> None:
    axes.set_xlabel(x_name)
    for name, label in labels.items():
        if name in table and x_name in table and np.isfinite(table[name]).any():
            values = np.where(np.isfinite(table[name]), table[name], np.nan)
            axes.plot(table[x_name], values, marker=marker, markersize=3, label=label)
    _finish(axes)


def _finish(axes: "Axes") -> None:
    """Add a legend, or say that there is nothing to see."""
    if axes.lines:
        axes.legend()
        return
    where = axes.transAxes
    axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=where, color="grey")


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

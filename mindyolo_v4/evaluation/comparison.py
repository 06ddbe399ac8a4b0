"""Several runs beside one another: a text table, and their curves in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindyolo_v4.errors import printable
from mindyolo_v4.evaluation.fonts import drawable_names
from mindyolo_v4.evaluation.report import read_columns, smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDEST_CELL = 60  # characters; the middle of a longer value is left out


def comparison_table(title: str, names: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Return a table as aligned text: a row per key, a column per run."""
    table = [[title, *names], *([key, *values] for key, values in rows.items())]
    cells = [[printable(cell, _WIDEST_CELL) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def plot_comparison(runs: Mapping[str, Path], curves: Mapping[str, str], png: Path) -> None:
    """Draw loss, learning rate and validation curves of run folders over each other into `png`.

    A file that is missing gives no curve. Losses are smoothed; their axis is logarithmic.

    Args:
        runs: name in the legend -> run folder.
        curves: column of metrics.csv -> title of its panel; two of them.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 8), layout="constrained")
    loss_axes, rate_axes, *metric_axes = figure.subplots(2, 2).flat
    short = tuple(printable(name, _WIDEST_CELL) for name in runs)
    names, families = drawable_names(short, "run", _WIDEST_CELL)
    for name, folder in zip(names, runs.values(), strict=True):
        steps = read_columns(folder / "steps.csv")
        metrics = read_columns(folder / "metrics.csv")
        _draw(loss_axes, name, steps, "step", "loss")
        _draw(rate_axes, name, steps, "step", "lr")
        for axes, column in zip(metric_axes, curves, strict=True):
            _draw(axes, name, metrics, "epoch", column)

    titles = ["loss", "learning rate", *curves.values()]
    for axes, title in zip(figure.axes, titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel("epoch" if axes in metric_axes else "step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    if all((np.asarray(line.get_ydata()) > 0).all() for line in loss_axes.lines):
        loss_axes.set_yscale("log")
    handles, labels = rate_axes.get_legend_handles_labels()
    style: dict[str, Any] = {"loc": "outside lower center", "prop": {"family": families}}
    legend = figure.legend(handles, labels, ncols=1, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a folder's name may hold a dollar sign
    figure.savefig(png, format="png")


def _draw(
    axes: "Axes", name: str, table: Mapping[str, np.ndarray], x_name: str, y_name: str
) -> None:
    """Draw a column, without its values that are not finite; an absent one as a curve of none."""
    x = table.get(x_name, np.zeros(0))
    y = table.get(y_name, np.zeros(0))
    finite = np.isfinite(y)
    values = smooth(y[finite]) if y_name == "loss" else y[finite]
    marker = "o" if x_name == "epoch" else ""
    axes.plot(x[finite], values, marker=marker, markersize=3, label=name)

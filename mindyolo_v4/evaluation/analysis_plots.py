"""The curves and tables of an analysis as pictures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.evaluation.analysis import TideError
from mindyolo_v4.evaluation.confidence import THRESHOLDS, ConfidenceCurves, best_threshold
from mindyolo_v4.evaluation.fonts import drawable_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 20  # classes that have a colour and a name
_MOST_NUMBERED = 30  # classes of a confusion matrix whose cells hold numbers
_RECALLS = np.linspace(0, 1, 101)


def plot_precision_recall(
    precision: NDArray[np.float64], class_names: Sequence[str], png: Path
) -> None:
    """Draw the precision over the recall of each class, and the mean.

    Args:
        precision: (C, 101), NaN where a class has no ground truth; one class has some.
    """
    defined = ~np.isnan(precision[:, 0])
    names, families = drawable_names(tuple(class_names), "class")
    values = precision.mean(axis=1)
    labels = [f"{name} {ap50:.3f}" for name, ap50 in zip(names, values, strict=True)]
    mean = precision[defined].mean(axis=0)
    with _axes(png, "Precision over recall, IoU 0.5", "recall", "precision") as axes:
        _draw_curves(axes, _RECALLS, precision, labels)
        _draw_mean(axes, _RECALLS, mean, f"mean {mean.mean():.3f}", families)


def plot_f1(curves: ConfidenceCurves, class_names: Sequence[str], png: Path) -> None:
    """Draw F1 over the confidence threshold of each class, and the mean; the best are named."""
    f1 = curves.f1
    mean = curves.mean_f1
    labels = []
    names, families = drawable_names(tuple(class_names), "class")
    for name, own in zip(names, f1, strict=True):
        defined = not np.isnan(own[0])
        best = f"{own.max():.3f} at {best_threshold(own):.3f}" if defined else ""
        labels.append(f"{name} {best}")
    threshold = best_threshold(mean)
    with _axes(png, "F1 over confidence, IoU 0.5", "confidence threshold", "F1") as axes:
        _draw_curves(axes, THRESHOLDS, f1, labels)
        label = f"mean {mean.max():.3f} at {threshold:.3f}"
        _draw_mean(axes, THRESHOLDS, mean, label, families)
        axes.axvline(threshold, color="black", linewidth=0.8, linestyle=":")


def plot_confusion(
    confusion: NDArray[np.int64], class_names: Sequence[str], threshold: float, png: Path
) -> None:
    """Draw a confusion matrix (C + 1, C + 1), coloured by the share of its row.

    Args:
        threshold: of the confidence, for the title.
    """
    from matplotlib.figure import Figure

    own_names, families = drawable_names(tuple(class_names), "class")
    names = (*own_names, "background")
    side = min(4 + 0.45 * len(names), 24)
    size = min(10.0, 720 / len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"Confusion matrix, IoU 0.5, confidence above {threshold:.3f}")
    axes.set_xlabel("prediction")
    axes.set_ylabel("ground truth")
    ticks = range(len(names))
    style: dict[str, Any] = {"fontsize": size, "family": families, "parse_math": False}
    axes.set_xticks(ticks, names, rotation=90, **style)
    axes.set_yticks(ticks, names, **style)
    if len(class_names) <= _MOST_NUMBERED:
        for row, column in np.argwhere(confusion > 0).tolist():
            ink = "white" if shares[row, column] > 0.5 else "black"
            text = str(confusion[row, column])
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    figure.savefig(png, format="png")


def plot_tide(errors: Sequence[TideError], png: Path) -> None:
    """Draw how much AP50 each kind of error costs, and how often it occurs."""
    with _axes(png, "Number of errors by kind (TIDE), IoU 0.5", "AP50 lost", "") as axes:
        lost = [error.lost_ap50 for error in errors]
        bars = axes.barh([error.kind for error in errors], lost)
        counts = [str(error.count) for error in errors]
        axes.bar_label(bars, counts, padding=3)
        axes.invert_yaxis()
        axes.set_xlim(0, max(*lost, 0.01) * 1.2)
        axes.set_ylim(auto=True)


@contextmanager
def _axes(png: Path, title: str, x_label: str, y_label: str) -> Iterator["Axes"]:
    """Yield axes from 0 to 1, and write them at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    yield axes
    figure.savefig(png, format="png")


def _draw_curves(
    axes: "Axes", x: NDArray[np.float64], curves: NDArray[np.float64], labels: Sequence[str]
) -> None:
    """Draw a curve per class; of more than 20 classes without colours and names."""
    is_named = len(curves) <= _MOST_NAMED
    for index, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        if np.isnan(curve).all():
            continue
        if is_named:
            style = "-" if index < 10 else "--"  # ten colours
            axes.plot(x, curve, label=label, color=f"C{index % 10}", linestyle=style)
        else:
            axes.plot(x, curve, color="grey", alpha=0.4, linewidth=0.6)


def _draw_mean(
    axes: "Axes",
    x: NDArray[np.float64],
    mean: NDArray[np.float64],
    label: str,
    families: tuple[str, ...],
) -> None:
    """Draw the mean of all classes, and the legend in these families of fonts."""
    axes.plot(x, mean, color="black", linewidth=2.5, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    style = {"family": families, "size": "small"}
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), prop=style)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a class name may hold a dollar sign

"""The objects of a training split as one picture: how many, where, and how large."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.fonts import drawable_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED_CLASSES = 40  # a larger number of names would be too small to read
_BINS = 50


def plot_labels(dataset: Dataset, png: Path) -> None:
    """Draw objects per class, objects per image, and centres and sizes of the boxes into `png`.

    Centres and sizes are fractions of the image. Boxes that are not trained are left out.
    """
    from matplotlib.figure import Figure

    counts, per_image, boxes = _trained_boxes(dataset)
    figure = Figure(figsize=(12, 10), layout="constrained")
    (class_axes, image_axes), (centre_axes, size_axes) = figure.subplots(2, 2)
    _plot_counts(class_axes, counts, dataset.class_names, "objects per class")
    _plot_per_image(image_axes, per_image)
    _plot_density(centre_axes, (boxes[:, :2] + boxes[:, 2:]) / 2, ("x", "y"), "centres of boxes")
    centre_axes.invert_yaxis()  # as in the image, y points down
    _plot_density(size_axes, boxes[:, 2:] - boxes[:, :2], ("width", "height"), "sizes of boxes")
    figure.savefig(png, format="png")


def plot_class_counts(counts: NDArray[np.integer], class_names: Sequence[str], png: Path) -> None:
    """Draw the images per class (C,) of a classification set into `png`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    _plot_counts(figure.subplots(), counts, class_names, "images per class")
    figure.savefig(png, format="png")


def _trained_boxes(
    dataset: Dataset,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return boxes per class (C,) and per image (N,), and all boxes (M, 4) in fractions."""
    records = dataset.records
    owners, class_ids = records.objects()
    counts = np.bincount(class_ids, minlength=len(dataset.class_names))
    boxes = records.boxes() / np.tile(records.sizes_wh_px[owners], 2)
    return counts, records.objects_per_image(), boxes


def _plot_counts(
    axes: "Axes", counts: NDArray[np.integer], class_names: Sequence[str], title: str
) -> None:
    """Plot a bar per class, with its name where there are not too many."""
    axes.set_title(f"{title}: {counts.sum()} in {len(counts)} classes")
    axes.bar(np.arange(len(counts)), counts, color="C0")
    if len(counts) <= _NAMED_CLASSES:
        names, families = drawable_names(tuple(class_names), "class")
        style: dict[str, Any] = {"family": families, "parse_math": False}
        axes.set_xticks(np.arange(len(counts)), names, rotation=60, ha="right", **style)
    else:
        axes.set_xlabel("number of the class")


def _plot_per_image(axes: "Axes", per_image: NDArray[np.int64]) -> None:
    """Plot how many images have so many objects."""
    empty = int((per_image == 0).sum())
    axes.set_title(f"objects per image: {empty} of {len(per_image)} images have none")
    largest = int(per_image.max(initial=0))
    axes.hist(per_image, bins=min(largest + 1, _BINS), range=(-0.5, largest + 0.5), color="C1")
    axes.set_xlabel("objects")
    axes.set_ylabel("images")


def _plot_density(
    axes: "Axes", points: NDArray[np.float64], names: tuple[str, str], title: str
) -> None:
    """Plot how many boxes have such a pair of fractions."""
    axes.set_title(f"{title}, fractions of the image")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.set_aspect("equal")
    edges = ((0.0, 1.0), (0.0, 1.0))
    axes.hist2d(points[:, 0], points[:, 1], bins=_BINS, range=edges, cmin=1)

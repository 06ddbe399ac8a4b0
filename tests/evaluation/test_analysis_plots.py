"""The pictures of an analysis: what is in them, with few and many classes and with odd names."""

import cv2
import numpy as np
import pytest

from mindyolo_v4.evaluation.analysis import TideError
from mindyolo_v4.evaluation.analysis_plots import (
    plot_confusion,
    plot_f1,
    plot_precision_recall,
    plot_tide,
)
from mindyolo_v4.evaluation.confidence import ConfidenceCurves

ODD_NAMES = ("$a$b$", "_hidden", "a name that is much longer than any margin")


def coloured(png):
    """Number of coloured (not grey) pixels."""
    image = cv2.imread(str(png)).astype(int)
    return int((image.max(axis=2) - image.min(axis=2) > 60).sum())


def curves(classes):
    best = np.linspace(10, 20, classes)
    hits = np.linspace(best, 0, 1000).T.astype(int)
    truths = np.full(classes, 25)
    truths[-1] = 0
    return ConfidenceCurves(hits, hits + 3, truths)


@pytest.mark.parametrize("plot", ["precision", "f1"])
def test_classes_have_colours_if_they_are_few(tmp_path, plot):
    pixels = []
    for classes in (6, 30):
        names = [*ODD_NAMES, *map(str, range(classes - 3))]
        png = tmp_path / f"{classes}.png"
        if plot == "f1":
            plot_f1(curves(classes), names, png)
        else:
            precision = np.linspace(np.linspace(0.5, 1, classes), 0, 101).T
            precision[-1] = np.nan
            plot_precision_recall(precision, names, png)
        pixels.append(coloured(png))
    assert pixels[0] > 300
    assert pixels[1] == 0


def test_confusion_has_a_dark_diagonal(tmp_path):
    plot_confusion(np.diag([5, 3, 2, 0]), ODD_NAMES, 0.3, tmp_path / "few.png")
    assert coloured(tmp_path / "few.png") > 10_000
    plot_confusion(np.eye(41, dtype=int), [str(k) for k in range(40)], 0.3, tmp_path / "many.png")
    assert coloured(tmp_path / "many.png") > 10_000


def test_a_longer_bar_for_a_costlier_error(tmp_path):
    pixels = []
    for lost in (0.0, 0.2, 0.4):
        errors = [TideError("class", 3, 0.4), TideError("location", 2, lost)]
        plot_tide(errors, tmp_path / "tide.png")
        pixels.append(coloured(tmp_path / "tide.png"))
    assert pixels[0] < pixels[1] < pixels[2]

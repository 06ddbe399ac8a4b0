"""CSV files of an analysis."""

import csv
import io

import numpy as np
import pytest

from mindyolo_v4.evaluation.analysis import analyse
from mindyolo_v4.evaluation.analysis_tables import (
    confusion_table,
    per_class_table,
    suspicious_labels_table,
    tide_table,
    worst_images_table,
)
from tests.support.scored import dataset, detections, evaluator_of, record

pytest.importorskip("hotcoco")

CAT = [0, 0, 50, 50]


@pytest.fixture
def case():
    """A cat that is found, a cat that is taken for a dog, and no owl; one name has a comma."""
    names = ("cat", "dog, small", "owl")
    split = dataset(record(1, [CAT], [0]), record(2, [CAT, [60, 60, 90, 90]], [0, 1]), names=names)
    found = [detections([*CAT, 0.9, 0]), detections([*CAT, 0.8, 1], [60, 60, 90, 90, 0.8, 1])]
    evaluator = evaluator_of(split, found)
    evaluation = evaluator.evaluate("hotcoco")
    metrics = evaluator.metrics(evaluation)
    truths = np.array([row["truths"] for row in metrics["per_class"]])
    return evaluator, metrics, analyse(evaluator, evaluation, truths)


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_per_class(case):
    _, metrics, analysis = case
    cat, dog, owl, every = rows(per_class_table(metrics, analysis))
    assert list(cat)[-4:] == ["precision", "recall", "F1", "conf_thres"]
    assert (cat["truths"], cat["precision"], cat["recall"], cat["F1"]) == (
        *("2", "1", "0.5"),
        f"{2 / 3:.6g}",
    )
    assert cat["conf_thres"] == "0.45"  # the middle of 0.000 to 0.899
    assert dog["class_name"] == "dog, small"
    assert (dog["precision"], dog["F1"]) == ("0.5", f"{2 / 3:.6g}")
    assert (owl["truths"], owl["AP"], owl["F1"], owl["conf_thres"]) == ("0", "", "", "")
    assert (every["class_id"], every["class_name"], every["truths"]) == ("", "all", "3")
    assert float(every["AP"]) == pytest.approx(metrics["AP"], abs=1e-6)
    assert float(every["F1"]) == pytest.approx(2 / 3, abs=1e-6)
    assert float(every["precision"]) == 0.75
    assert float(every["recall"]) == 0.75


def test_per_class_without_hotcoco(case):
    _, metrics, _ = case
    *classes, every = rows(per_class_table(metrics, None))
    assert [row["AP50"] != "" for row in classes] == [True, True, False]
    assert {row["F1"] for row in [*classes, every]} == {""}


def test_confusion(case):
    evaluator, _, analysis = case
    table = rows(confusion_table(analysis, evaluator.dataset.class_names))
    assert [row["ground truth"] for row in table] == ["cat", "dog, small", "owl", "background"]
    assert table[0] == {
        "ground truth": "cat",
        "cat": "1",
        "dog, small": "1",
        "owl": "0",
        "background": "0",
    }


def test_tide(case):
    table = {row["error"]: row for row in rows(tide_table(case[2]))}
    assert len(table) == 6
    assert table["class"]["count"] == "1"
    assert float(table["class"]["lost_AP50"]) > 0.2


def test_worst_images_and_suspicious_labels(case):
    evaluator, _, analysis = case
    (worst,) = rows(worst_images_table(analysis, evaluator.dataset))
    assert (worst["picture"], worst["image"]) == ("worst_01.jpg", "/pictures/2.jpg")
    assert (worst["hits"], worst["wrong"], worst["missed"]) == ("1", "1", "1")
    table = suspicious_labels_table(analysis, evaluator.dataset, evaluator.predictions())
    (label,) = rows(table)
    assert (label["problem"], label["labelled"], label["predicted"]) == (
        *("wrong class", "cat"),
        "dog, small",
    )
    assert (label["picture"], label["score"], label["IoU"]) == ("suspicious_01.jpg", "0.8", "1")
    assert (label["left"], label["width"]) == ("0", "50")

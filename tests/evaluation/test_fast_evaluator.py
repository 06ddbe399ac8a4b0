"""hotcoco, the preferred evaluator, gives the numbers of pycocotools, to the last class."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.evaluation import coco_metrics
from mindyolo_v4.evaluation.coco_metrics import METRIC_NAMES, CocoEvaluator
from mindyolo_v4.evaluation.detections import Detections
from tests.support.scores import metrics_of

CLASSES = 4  # the last never occurs among the truths
SIDES_PX = {"small": (1, 31), "medium": (20, 110), "large": (80, 300)}


def made_record(image_id, rng, grid_px: float) -> ImageRecord:
    """An image whose boxes lie on a grid, so that overlaps meet the thresholds exactly."""
    count = int(rng.integers(0, 8))
    low, high = (
        np.array([SIDES_PX[str(rng.choice(list(SIDES_PX)))] for _ in range(count)], float)
        .reshape(-1, 2)
        .T
    )
    sides = np.maximum(grid_px, np.round(rng.uniform(low, high, (2, count)).T / grid_px) * grid_px)
    corner = np.round(rng.uniform(0, 400, (count, 2)) / grid_px) * grid_px
    ignored = rng.random(count) < 0.2
    areas = sides.prod(axis=1) * rng.choice([1.0, 0.6], count)
    areas[rng.random(count) < 0.2] = 1024.0  # the border of small and medium
    return ImageRecord(
        path=Path(f"{image_id}.jpg"),
        width=640,
        height=480,
        boxes_xyxy_px=np.concatenate([corner, corner + sides], axis=1).astype(np.float32),
        class_ids=rng.integers(0, CLASSES - 1, count),
        ignore=ignored,
        crowd=ignored,
        areas_px=areas,
        image_id=image_id,
        label_path="",
    )


def found_in(record: ImageRecord, rng, decimals: int, extra: int) -> Detections:
    """Return each target up to three times, some exactly, some as another class; and noise."""
    again = np.repeat(np.arange(len(record.class_ids)), rng.integers(0, 4, len(record.class_ids)))
    near = record.boxes_xyxy_px[again] + rng.choice([0, 4, 8], (len(again), 4))
    corner = rng.uniform(0, 500, (extra, 2))
    boxes = np.concatenate(
        [near, np.concatenate([corner, corner + rng.uniform(1, 200, (extra, 2))], axis=1)]
    )
    classes = np.concatenate([record.class_ids[again], rng.integers(0, CLASSES, extra)])
    swapped = rng.random(len(classes)) < 0.1
    classes[swapped] = rng.integers(0, CLASSES, int(swapped.sum()))
    scores = np.round(rng.random(len(boxes)), decimals)  # one decimal: mostly ties
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), classes)


def made_evaluator(seed: int, ids=None) -> CocoEvaluator:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(int(rng.integers(1, 10))).tolist() if ids is None else ids
    records = Records(made_record(image_id, rng, float(rng.choice([0.1, 8.0]))) for image_id in ids)
    names = tuple(f"class {number}" for number in range(CLASSES))
    evaluator = CocoEvaluator(Dataset(records, names, (7, 3, 0, 90), "made", ()))
    decimals = int(rng.choice([1, 2, 6]))
    for index, record in enumerate(records):
        if rng.random() < 0.9:
            crowded = 400 if rng.random() < 0.1 else 3  # 100 a class are looked at
            evaluator.add(index, found_in(record, rng, decimals, int(rng.integers(0, crowded))))
    return evaluator


@pytest.fixture
def hotcoco() -> None:
    if coco_metrics.hotcoco_version() is None:
        pytest.skip("hotcoco is not installed")


@pytest.mark.usefixtures("hotcoco")
@pytest.mark.parametrize("seed", range(60))
def test_equals_pycocotools(seed):
    evaluator = made_evaluator(seed)
    reference, fast = (metrics_of(evaluator, "pycocotools"), metrics_of(evaluator, "hotcoco"))
    assert [row["AP"] is None for row in fast["per_class"]] == [
        row["AP"] is None for row in reference["per_class"]
    ]
    for ours, theirs in [
        (fast, reference),
        *zip(fast["per_class"], reference["per_class"], strict=True),
    ]:
        for name in METRIC_NAMES if "images" in ours else ("AP", "AP50"):
            assert ours[name] == (
                None if theirs[name] is None else pytest.approx(theirs[name], abs=1e-6)
            ), name


@pytest.mark.usefixtures("hotcoco")
def test_the_made_sets_hold_what_is_to_be_compared():
    evaluators = [made_evaluator(seed) for seed in range(60)]
    truths = [one for evaluator in evaluators for one in evaluator.ground_truth()["annotations"]]
    assert {one["iscrowd"] for one in truths} == {0, 1}
    assert any(one["area"] == 1024 for one in truths)
    scores = [[one["score"] for one in evaluator.predictions()] for evaluator in evaluators]
    assert sum(len(set(one)) < len(one) for one in scores) > 20
    aps = [metrics_of(evaluator, "pycocotools")["AP"] for evaluator in evaluators]
    assert None in aps and len(set(aps)) > 30


@pytest.mark.usefixtures("hotcoco")
def test_an_evaluation_without_detections_or_truths():
    records = Records([made_record(1, np.random.default_rng(3), 8.0)])
    empty = CocoEvaluator(Dataset(records, ("a", "b", "c"), (1, 2, 3), "", ()))
    assert metrics_of(empty, "hotcoco") == metrics_of(empty, "pycocotools")
    nothing = CocoEvaluator(Dataset(Records(()), ("a",), (1,), "", ()))
    assert metrics_of(nothing, "hotcoco") == metrics_of(nothing, "pycocotools")


def said(caplog, evaluator: CocoEvaluator) -> list[str]:
    coco_metrics._log_once.cache_clear()
    caplog.clear()
    with caplog.at_level(logging.INFO, "mindyolo_v4"):
        metrics_of(evaluator)
        metrics_of(evaluator)
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def heard(monkeypatch):
    """A run's logger keeps its lines to itself; another test may have set it up."""
    monkeypatch.setattr(logging.getLogger("mindyolo_v4"), "propagate", True)


@pytest.mark.usefixtures("hotcoco")
def test_the_log_says_once_that_it_is_used(caplog):
    assert said(caplog, made_evaluator(0)) == [
        f"COCO metrics by hotcoco {coco_metrics.hotcoco_version()}"
    ]


@pytest.mark.usefixtures("hotcoco")
@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("ids", [["one", 2, "3"], [-1, 2, 3], ["c", "b", "a"], [2**70, 2, 3]])
def test_ids_of_any_kind_change_no_number(ids, evaluator):
    expected = metrics_of(made_evaluator(3, [1, 2, 3]), "pycocotools")
    found = made_evaluator(3, ids)
    metrics = metrics_of(found, evaluator)
    for name in METRIC_NAMES:
        assert metrics[name] == pytest.approx(expected[name], abs=1e-6)
    assert {entry["image_id"] for entry in found.predictions()} <= set(ids)
    assert [image["id"] for image in found.ground_truth()["images"]] == ids


def test_without_it_pycocotools_does(caplog, monkeypatch):
    monkeypatch.setattr(coco_metrics, "hotcoco_version", lambda: None)
    evaluator = made_evaluator(3)
    (line,) = said(caplog, evaluator)
    assert line.startswith("COCO metrics by pycocotools")
    assert metrics_of(evaluator) == metrics_of(evaluator, "pycocotools")


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.3.0", "1.3.0"), ("1.10.2", "1.10.2"), ("1.2.9", None), ("2.0", None)],
)
def test_only_versions_that_were_compared_are_used(monkeypatch, version, expected):
    monkeypatch.setattr(coco_metrics.metadata, "version", lambda name: version)
    assert coco_metrics.hotcoco_version.__wrapped__() == expected

"""COCO numbers by hand, and against a plain pycocotools run over files on disk."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.evaluation.coco_metrics import METRIC_NAMES, CocoEvaluator
from tests.support.scored import dataset, detections, evaluator_of, perturbed, random_split, record
from tests.support.scores import metrics_of


def plain_pycocotools(truths: Path, results: Path) -> list[float]:
    """The twelve numbers by the documented calls, from files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(truths))
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def test_false_positive_above_a_hit_halves_precision():
    evaluator = CocoEvaluator(dataset(record(1, [[10, 10, 60, 60]], [0])))
    evaluator.add(0, detections([200, 200, 300, 300, 0.9, 0], [10, 10, 60, 60, 0.8, 0]))
    metrics = metrics_of(evaluator)
    assert metrics["AP"] == pytest.approx(0.5)
    assert metrics["AP50"] == pytest.approx(0.5)
    assert metrics["AR1"] == 0.0
    assert metrics["AR10"] == 1.0
    assert metrics["images"] == 1


def test_half_of_the_truths_found():
    evaluator = CocoEvaluator(dataset(record(1, [[0, 0, 50, 50], [100, 100, 150, 150]], [0, 0])))
    evaluator.add(0, detections([0, 0, 50, 50, 0.9, 0]))
    assert metrics_of(evaluator)["AP"] == pytest.approx(
        51 / 101
    )  # recalls 0.00 to 0.50 of 101 points


def test_iou_decides_how_many_thresholds_pass():
    evaluator = CocoEvaluator(dataset(record(1, [[0, 0, 100, 100]], [0])))
    evaluator.add(0, detections([0, 0, 100, 72, 0.9, 0]))  # IoU 0.72: 0.50, 0.55, 0.60, 0.65, 0.70
    metrics = metrics_of(evaluator)
    assert (metrics["AP"], metrics["AP50"], metrics["AP75"]) == (
        pytest.approx(0.5),
        pytest.approx(1),
        0.0,
    )


def test_classes_and_numbers_without_truths():
    truths = dataset(
        record(1, [[0, 0, 20, 20], [100, 100, 150, 150]], [0, 1]),
        record(2, [[0, 0, 20, 20]], [1]),
        names=("cat", "dog", "owl"),
    )
    evaluator = CocoEvaluator(truths)
    evaluator.add(
        0, detections([0, 0, 20, 20, 0.9, 0], [100, 100, 150, 150, 0.8, 1], [7, 7, 9, 9, 0.7, 2])
    )
    metrics = metrics_of(evaluator)
    assert metrics["per_class"] == [
        {
            "class_id": 0,
            "class_name": "cat",
            "AP": pytest.approx(1),
            "AP50": pytest.approx(1),
            "truths": 1,
        },
        {
            "class_id": 1,
            "class_name": "dog",
            "AP": pytest.approx(51 / 101),
            "AP50": pytest.approx(51 / 101),
            "truths": 2,
        },
        {"class_id": 2, "class_name": "owl", "AP": None, "AP50": None, "truths": 0},
    ]
    assert metrics["AP"] == pytest.approx((1 + 51 / 101) / 2)
    assert metrics["APl"] is None
    assert metrics["ARl"] is None
    assert metrics["APs"] == pytest.approx(0.5)
    json.dumps(metrics, allow_nan=False)


def test_classes_keep_their_order_when_category_ids_do_not_ascend():
    truths = dataset(record(1, [[0, 0, 20, 20], [50, 50, 90, 90]], [0, 1]), category_ids=(7, 3))
    evaluator = CocoEvaluator(truths)
    evaluator.add(0, detections([0, 0, 20, 20, 0.9, 0]))
    assert [row["AP"] for row in metrics_of(evaluator)["per_class"]] == [pytest.approx(1), 0.0]
    assert evaluator.predictions()[0]["category_id"] == 7


def test_ignored_truth_neither_counts_nor_costs():
    boxes, class_ids = [[0, 0, 50, 50], [100, 100, 200, 200]], [0, 0]
    evaluator = CocoEvaluator(dataset(record(1, boxes, class_ids, ignore=[False, True])))
    evaluator.add(
        0,
        detections(
            [100, 100, 200, 200, 0.9, 0], [101, 100, 200, 200, 0.8, 0], [0, 0, 50, 50, 0.7, 0]
        ),
    )
    metrics = metrics_of(evaluator)
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["per_class"][0]["truths"] == 1


def test_no_detections_at_all():
    evaluator = CocoEvaluator(dataset(record(1, [[0, 0, 50, 50]], [0]), record(2)))
    assert metrics_of(evaluator)["AP"] == 0.0
    assert evaluator.predictions() == []
    evaluator.add(1, detections())
    assert metrics_of(evaluator)["AP50"] == 0.0


def test_no_truths_at_all():
    evaluator = CocoEvaluator(dataset(record(1)))
    evaluator.add(0, detections([0, 0, 50, 50, 0.9, 0]))
    metrics = metrics_of(evaluator)
    assert {metrics[name] for name in METRIC_NAMES} == {None}


def test_written_forms():
    evaluator = CocoEvaluator(
        dataset(record(42, [[10.5, 20, 30, 50]], [1], areas=[123.25]), record("b"))
    )
    evaluator.add(1, detections([1.23456, 2, 4, 8, 0.1234567, 0]))
    evaluator.add(0, detections([0, 0, 1, 1, 0.5, 1]))
    assert evaluator.predictions() == [
        {"image_id": 42, "category_id": 2, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.5},
        {"image_id": "b", "category_id": 1, "bbox": [1.235, 2.0, 2.765, 6.0], "score": 0.123457},
    ]
    truths = evaluator.ground_truth()
    assert truths["annotations"] == [
        {
            "id": 1,
            "image_id": 42,
            "category_id": 2,
            "bbox": [10.5, 20, 19.5, 30],
            "area": 123.25,
            "iscrowd": 0,
        }
    ]
    assert truths["images"][0] == {"id": 42, "file_name": "42.jpg", "width": 640, "height": 480}
    assert [one["name"] for one in truths["categories"]] == ["cat", "dog"]


def test_image_ids_must_differ():
    with pytest.raises(ValueError, match="not unique"):
        CocoEvaluator(dataset(record(1), record(1)))


def test_metrics_print_nothing_and_change_nothing(capsys):
    evaluator = CocoEvaluator(dataset(record(1, [[0, 0, 50, 50]], [0])))
    evaluator.add(0, detections([0, 0, 50, 50, 0.9, 0]))
    before = json.dumps([evaluator.predictions(), evaluator.ground_truth()])
    assert metrics_of(evaluator) == metrics_of(evaluator)
    assert json.dumps([evaluator.predictions(), evaluator.ground_truth()]) == before
    assert capsys.readouterr().out == ""


HIT = [0, 0, 50, 50]
HAND_MADE = {
    "crowd": (
        [record(1, [[0, 0, 200, 200], [300, 300, 360, 360]], [0, 0], ignore=[True, False])],
        [
            detections(
                [20, 20, 60, 60, 0.9, 0], [90, 90, 120, 130, 0.8, 0], [300, 300, 352, 360, 0.7, 0]
            )
        ],
    ),
    "a difficult box, a duplicate and a wrong class": (
        [
            record(1, [HIT, [100, 100, 200, 200]], [0, 1], ignore=[False, True]),
            record(2, [HIT], [1]),
        ],
        [
            detections([0, 0, 50, 48, 0.9, 0], [*HIT, 0.8, 0], [101, 100, 200, 200, 0.7, 1]),
            detections([*HIT, 0.6, 0], [0, 0, 50, 40, 0.5, 1]),
        ],
    ),
    "equal scores and an IoU of exactly 0.5": (
        [record(1, [HIT, [100, 0, 150, 50]], [0, 0])],
        [detections([0, 0, 50, 25, 0.5, 0], [*HIT, 0.5, 0], [100, 0, 150, 40, 0.5, 0])],
    ),
}


@pytest.mark.parametrize("evaluator", ["auto", "pycocotools"])
@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_cases_equal_pycocotools(tmp_path, case, evaluator):
    records, detected = HAND_MADE[case]
    ours = evaluator_of(dataset(*records), detected)
    (tmp_path / "truths.json").write_text(json.dumps(ours.ground_truth()))
    (tmp_path / "found.json").write_text(json.dumps(ours.predictions()))
    metrics = metrics_of(ours, evaluator)
    expected = plain_pycocotools(tmp_path / "truths.json", tmp_path / "found.json")
    numbers = [-1 if metrics[name] is None else metrics[name] for name in METRIC_NAMES]
    assert numbers == pytest.approx(expected, abs=1e-6)
    assert metrics["AP50"] > 0.2


def test_equals_pycocotools_over_the_written_files(tmp_path, rng):
    split, detected = random_split(rng)
    evaluator = evaluator_of(split, detected[:-1])
    (tmp_path / "truths.json").write_text(json.dumps(evaluator.ground_truth()))
    (tmp_path / "found.json").write_text(json.dumps(evaluator.predictions()))
    metrics = metrics_of(evaluator)
    expected = plain_pycocotools(tmp_path / "truths.json", tmp_path / "found.json")
    assert [metrics[name] for name in METRIC_NAMES] == expected
    assert 0.1 < metrics["AP"] < 0.9


@pytest.mark.parametrize("name", ["instances_train2017.json", "val2017_from_yolo_boxes.json"])
def test_equals_pycocotools_over_a_real_annotation_file(data_root, tmp_path, rng, name):
    # Ours come from records, the oracle's from the file itself (with 10 crowds in the first).
    annotation_file = data_root / "coco128" / "annotations" / name
    content = json.loads(annotation_file.read_text())
    category_ids = tuple(sorted(one["id"] for one in content["categories"]))
    names = {one["id"]: one["name"] for one in content["categories"]}
    records = []
    for image in content["images"]:
        mine = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        boxes = np.array([one["bbox"] for one in mine], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = [category_ids.index(one["category_id"]) for one in mine]
        crowd = np.array([bool(one["iscrowd"]) for one in mine], bool)
        records.append(
            record(image["id"], boxes, classes, ignore=crowd, areas=[one["area"] for one in mine])
        )
    evaluator = CocoEvaluator(
        dataset(*records, names=tuple(names[k] for k in category_ids), category_ids=category_ids)
    )
    for index, one in enumerate(records):
        evaluator.add(index, perturbed(one, rng, classes=len(names)))
    (tmp_path / "found.json").write_text(json.dumps(evaluator.predictions()))
    metrics = metrics_of(evaluator)
    expected = plain_pycocotools(annotation_file, tmp_path / "found.json")
    assert [metrics[metric] for metric in METRIC_NAMES] == pytest.approx(expected, abs=1e-12)
    assert metrics["images"] == 128

"""Confusion matrix, TIDE, worst images and suspicious labels, by hand and against numpy."""

import numpy as np
import pytest

from mindyolo_v4.evaluation.analysis import ImageErrors, SuspiciousLabel, analyse
from tests.support.scored import dataset, detections, evaluator_of, random_split, record

pytest.importorskip("hotcoco")

CAT = [0, 0, 50, 50]
DOG = [100, 100, 180, 180]


def analysis_of(evaluator):
    evaluation = evaluator.evaluate("hotcoco")
    rows = evaluator.metrics(evaluation)["per_class"]
    return analyse(evaluator, evaluation, np.array([row["truths"] for row in rows]))


def iou(first, second):
    shared = np.prod(
        np.maximum(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0)
    )
    return shared / (np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared)


def expected_confusion(split, matches, threshold):
    """Match detections of any class with boxes of any class, in the order of the scores."""
    classes = len(split.class_names)
    table = np.zeros((classes + 1, classes + 1), int)
    for index, record_ in enumerate(split.records):
        own = np.flatnonzero(~record_.ignore)
        boxes = record_.boxes_xyxy_px[own].astype(float)
        labels = record_.class_ids[own]
        free = np.ones(len(own), bool)
        found = matches.of_record(index)
        for k in np.argsort(-found.scores, kind="stable"):
            if found.scores[k] <= threshold:
                continue
            box = found.boxes_xyxy_px[k].astype(float)
            overlap = np.array([iou(box, one) if free[t] else 0 for t, one in enumerate(boxes)])
            best = int(np.argmax(overlap)) if len(overlap) else 0
            row = classes
            if len(overlap) and overlap[best] >= 0.5:
                row = labels[best]
                free[best] = False
            table[row, found.class_ids[k]] += 1
        np.add.at(table, (labels[free], classes), 1)
    return table


@pytest.mark.parametrize("seed", range(4))
def test_confusion_equals_numpy(seed):
    split, detected = random_split(np.random.default_rng(seed))
    analysis = analysis_of(evaluator_of(split, detected))
    expected = expected_confusion(split, analysis.matches, analysis.threshold)
    assert analysis.confusion.tolist() == expected.tolist()
    assert np.count_nonzero(expected) == 8  # all but background that is not a detection


def test_confusion_by_hand():
    # Category ids that descend: the table keeps the order of the classes.
    split = dataset(
        record(1, [CAT, DOG, [300, 300, 400, 400]], [0, 1, 0], ignore=[False, False, True]),
        category_ids=(9, 4),
    )
    found = detections(
        [*CAT, 0.9, 1], [*DOG, 0.8, 1], [310, 310, 330, 330, 0.95, 0], [500, 0, 520, 20, 0.85, 0]
    )
    analysis = analysis_of(evaluator_of(split, [found]))
    # A cat taken for a dog, a dog, and a cat on background; the one in the ignored box is left out.
    assert analysis.confusion.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


TIDE = {
    "class": [*CAT, 0.9, 1],
    "location": [0, 0, 50, 20, 0.9, 0],  # IoU 0.4
    "class and location": [0, 0, 50, 20, 0.9, 1],
    "background": [400, 400, 450, 450, 0.9, 0],
}


@pytest.mark.parametrize("kind", TIDE)
def test_tide_names_each_kind(kind):
    split = dataset(record(1, [CAT], [0]), record(2, [DOG], [1]))
    analysis = analysis_of(
        evaluator_of(split, [detections(TIDE[kind]), detections([*DOG, 0.5, 1])])
    )
    errors = {error.kind: error for error in analysis.tide}
    wrong = {name for name, error in errors.items() if error.count and name != "missed"}
    assert wrong == {kind}
    is_covered = kind in ("class", "location")  # the paper: such a cat is not called missed
    assert errors["missed"].count == (0 if is_covered else 1)


def test_tide_gives_back_what_a_correction_gains():
    # A duplicate above a hit: AP50 of cat is 51 x 1 + 50 x 2/3 of 101 points, and 1 without it.
    boxes = [CAT, [60, 0, 110, 50]]
    found = detections([*CAT, 0.9, 0], [0, 0, 50, 49, 0.8, 0], [60, 0, 110, 50, 0.7, 0])
    analysis = analysis_of(evaluator_of(dataset(record(1, boxes, [0, 0])), [found]))
    (duplicate,) = [error for error in analysis.tide if error.kind == "duplicate"]
    assert duplicate.count == 1
    assert duplicate.lost_ap50 == pytest.approx(1 - (51 + 50 * 2 / 3) / 101)


def test_worst_images_first():
    perfect = record(1, [CAT], [0])
    half = record(2, [CAT, DOG], [0, 0])
    records = [perfect, half, record(3, [CAT], [0]), record(4, [CAT, DOG], [0, 1]), record(5)]
    hit = [*CAT, 0.9, 0]
    noise = [300, 300, 350, 350, 0.9, 0]
    found = [detections(hit), detections(hit, noise), detections(), detections(), detections()]
    worst = analysis_of(evaluator_of(dataset(*records), found)).worst
    assert worst == (
        ImageErrors(3, 0.0, 0, 0, 2),
        ImageErrors(2, 0.0, 0, 0, 1),
        ImageErrors(1, 0.5, 1, 1, 1),
    )


def test_no_more_than_ten_worst_images():
    records = [record(number, [CAT], [0]) for number in range(1, 13)]
    worst = analysis_of(evaluator_of(dataset(*records), [detections([*CAT, 0.9, 0])])).worst
    assert [one.record_id for one in worst] == list(range(1, 11))


def test_suspicious_labels():
    split = dataset(record(1), record("b", [CAT, DOG], [0, 1]))
    found = detections(
        [*CAT, 0.7, 1], [*DOG, 0.9, 1], [300, 300, 350, 350, 0.8, 1], [310, 0, 340, 30, 0.1, 0]
    )
    analysis = analysis_of(evaluator_of(split, [detections([0, 0, 9, 9, 0.6, 1]), found]))
    # dog: F1 falls with each wrong detection, so the threshold is above 0.8 where only the hit is.
    assert 0.8 <= analysis.threshold < 0.9
    assert analysis.suspicious == ()

    sure = detections([*CAT, 0.96, 1], [*DOG, 0.9, 1], [300, 300, 350, 350, 0.95, 1])
    analysis = analysis_of(evaluator_of(split, [detections(), sure]))
    assert analysis.suspicious == (
        SuspiciousLabel("wrong class", 1, 0, 0, 1.0),
        SuspiciousLabel("missing box", 1, 2, None, 0.0),
    )

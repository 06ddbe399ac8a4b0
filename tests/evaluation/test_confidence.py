"""F1 over confidence, against a recomputation in numpy."""

import numpy as np
import pytest

from mindyolo_v4.evaluation.confidence import (
    THRESHOLDS,
    best_threshold,
    confidence_curves,
    matches_of,
)
from tests.support.scored import dataset, detections, evaluator_of, random_split, record

pytest.importorskip("hotcoco")


def overlaps(box, others, ignore):
    """IoU of a box with others (N, 4); intersection over its own area with ignored ones."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    own = (box[2:] - box[:2]).prod()
    union = own + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    return shared / np.where(ignore, own, union)


def expected_f1(split, detected, class_id):
    """F1 at each threshold, by COCO's matching."""
    scores, hits, truths = [], [], 0
    for record_, found in zip(split.records, detected, strict=True):
        own = record_.class_ids == class_id
        boxes, ignore = record_.boxes_xyxy_px[own].astype(float), record_.ignore[own]
        truths += int((~ignore).sum())
        free = ~ignore
        mine = found.class_ids == class_id
        order = np.argsort(-found.scores[mine], kind="stable")
        for score, box in zip(
            found.scores[mine][order], found.boxes_xyxy_px[mine][order], strict=True
        ):
            iou = overlaps(box.astype(float), boxes, ignore)
            best = int(np.argmax(np.where(free, iou, -1))) if len(iou) else 0
            is_hit = bool(len(iou)) and free[best] and iou[best] >= 0.5
            if is_hit:
                free[best] = False
            elif (iou[ignore] >= 0.5).any():
                continue
            scores.append(score)
            hits.append(is_hit)
    scores = np.round(np.array(scores, float), 6)
    hits = np.array(hits)
    counts = [((scores > c).sum(), hits[scores > c].sum()) for c in THRESHOLDS]
    return np.array([2 * tp / (count + truths) for count, tp in counts])


def curves_of(evaluator):
    evaluation = evaluator.evaluate("hotcoco")
    rows = evaluator.metrics(evaluation)["per_class"]
    status = evaluation.image_diagnostics(iou_thr=0.5)["dt_status"]
    matches = matches_of(evaluator.dataset, evaluator.predictions(), status)
    return confidence_curves(matches, np.array([row["truths"] for row in rows]))


@pytest.mark.parametrize("seed", range(4))
def test_equals_numpy(seed):
    split, detected = random_split(np.random.default_rng(seed))
    curves = curves_of(evaluator_of(split, detected))
    expected = np.stack([expected_f1(split, detected, class_id) for class_id in (0, 1)])
    np.testing.assert_allclose(curves.f1, expected, atol=1e-6)
    np.testing.assert_allclose(curves.mean_f1, expected.mean(axis=0), atol=1e-6)

    for f1 in (*expected, expected.mean(axis=0)):
        at = best_threshold(f1)
        assert f1[at == THRESHOLDS] == f1.max()
    assert 0.4 < expected.max() < 1


def test_by_hand():
    # Two truths. Above 0.3: one hit of two detections; above 0.5: one of one.
    split = dataset(record(1, [[0, 0, 50, 50], [100, 100, 150, 150]], [0, 0]), names=("cat", "dog"))
    found = [detections([0, 0, 50, 50, 0.8, 0], [300, 300, 350, 350, 0.5, 0])]
    curves = curves_of(evaluator_of(split, found))
    assert curves.f1[0, [0, 499, 500, 799, 800]] == pytest.approx([0.5, 0.5, 2 / 3, 2 / 3, 0])
    assert np.isnan(curves.f1[1]).all()  # no dog in the split
    assert curves.mean_f1 == pytest.approx(curves.f1[0])
    assert best_threshold(curves.mean_f1) == 0.65  # the middle of 0.500 to 0.799
    precision, recall = curves.at(0.65)
    assert (precision[0], recall[0]) == (1, 0.5)
    assert np.isnan([precision[1], recall[1]]).all()


def test_no_hit_gives_the_threshold_of_predict():
    assert best_threshold(np.zeros(len(THRESHOLDS))) == 0.25

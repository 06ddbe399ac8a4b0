"""The record of a prediction."""

import numpy as np

from mindyolo_v4.deploy.prediction import Detection, Prediction
from mindyolo_v4.evaluation.draw import draw_detections

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
BOXES = np.array([[1.23456, 2, 30, 20], [5, 5, 50, 39.5]], np.float32)
SCORES = np.array([0.75, 0.5], np.float32)
FOUND = Prediction("x.png", IMAGE, BOXES, SCORES, np.array([2, 0]), ("dog", "cat"))
CLASSES = Prediction("", IMAGE, None, np.array([0.7, 0.2]), np.array([1, 0]), ("b", "a"))


def test_it_is_iterable_and_has_the_keys_of_predictions_json() -> None:
    assert len(FOUND) == 2
    first, second = FOUND
    assert first == Detection(2, "dog", 0.75, (1.235, 2.0, 30.0, 20.0))
    assert second.class_name == "cat"
    assert FOUND.to_dict() == {
        "file": "x.png",
        "width": 60,
        "height": 40,
        "detections": [
            {
                "class_id": 2,
                "class_name": "dog",
                "score": 0.75,
                "box_xyxy_px": [1.235, 2.0, 30.0, 20.0],
            },
            {
                "class_id": 0,
                "class_name": "cat",
                "score": 0.5,
                "box_xyxy_px": [5.0, 5.0, 50.0, 39.5],
            },
        ],
    }
    assert CLASSES.to_dict()["top5"] == [
        {"class_id": 1, "class_name": "b", "score": 0.7},
        {"class_id": 0, "class_name": "a", "score": 0.2},
    ]


def test_it_draws_a_copy() -> None:
    before = IMAGE.copy()
    expected = draw_detections(IMAGE, BOXES, FOUND.class_ids, SCORES, ["cat", "?", "dog"])
    np.testing.assert_array_equal(FOUND.draw(), expected)
    whole = np.array([[0, 0, 60, 40]])
    best = draw_detections(IMAGE, whole, np.array([1]), np.array([0.7]), ["a", "b"])
    np.testing.assert_array_equal(CLASSES.draw(), best)
    np.testing.assert_array_equal(IMAGE, before)


def test_only_some_scores() -> None:
    lowest = float(sorted(FOUND.scores)[-1])
    (best,) = FOUND.of_scores(lowest)
    assert best.score == lowest
    assert len(FOUND.of_scores(lowest + 0.01)) == 0
    assert len(FOUND.of_scores(0.0)) == len(FOUND)

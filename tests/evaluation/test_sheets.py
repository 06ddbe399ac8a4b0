"""Several images in one picture: where each lies, and what is drawn on it."""

from pathlib import Path

import numpy as np

from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.draw import class_color
from mindyolo_v4.evaluation.sheets import (
    batch_sheet,
    class_beside_prediction,
    sheet,
    truth_beside_prediction,
)

NAMES = ("cat", "dog")


def has_color(image: np.ndarray, class_id: int) -> bool:
    return bool((image == class_color(class_id)).all(axis=2).any())


def test_images_lie_row_by_row_in_equal_cells() -> None:
    sizes = [(10, 20), (8, 6), (10, 20)]
    images = [np.full((*size, 3), 50 * k, np.uint8) for k, size in enumerate(sizes)]
    paper = sheet(images, 2)
    assert paper.shape == (10 + 4 + 10, 20 + 4 + 20, 3)
    assert (paper[:10, :20] == 0).all()
    assert (paper[:8, 24:30] == 50).all()
    assert (paper[14:, :20] == 100).all()
    for part in (paper[10:14], paper[:, 20:24], paper[8:10, 24:], paper[14:, 24:]):
        assert (part == 255).all()


def test_a_batch_is_drawn_with_its_boxes_and_at_most_sixteen_images() -> None:
    images = np.zeros((20, 240, 240, 3), np.uint8)
    boxes = [np.array([[60.0, 120.0, 180.0, 180.0]])] + [np.zeros((0, 4))] * 19
    ids = [np.array([1])] + [np.zeros(0, np.int64)] * 19
    drawn = batch_sheet(images, boxes, ids, None, NAMES)
    side = 480
    assert drawn.shape == (4 * side + 12, 4 * side + 12, 3)
    assert tuple(drawn[300, 120]) == class_color(1)  # the left edge, twice as far as in the image
    assert tuple(drawn[359, 240]) == class_color(1)
    assert drawn[:side, side + 4 : 2 * side + 4].max() == 0


def test_ground_truth_stands_beside_what_was_predicted_with_confidence() -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    record = ImageRecord(
        Path("/a.jpg"),
        200,
        100,
        np.array([[20.0, 40, 80, 90]], np.float32),
        np.array([0]),
        np.zeros(1, bool),
        np.zeros(1, bool),
        np.ones(1),
        1,
        "",
    )
    boxes = np.array([[120.0, 40, 180, 90]] * 2, np.float32)
    sure = Detections(boxes[:1], np.array([0.3], np.float32), np.array([1]))
    unsure = Detections(boxes[:1], np.array([0.2], np.float32), np.array([1]))
    pair = truth_beside_prediction(image, record, sure, NAMES, side_px=200)
    assert pair.shape == (122, 200 + 4 + 200, 3)
    left = pair[:, :200]
    right = pair[:, 204:]
    assert has_color(left, 0) and not has_color(left, 1)
    assert has_color(right, 1) and not has_color(right, 0)
    nothing = truth_beside_prediction(image, record, unsure, NAMES, side_px=200)[22:, 204:]
    assert (nothing == 128).all()


def test_a_class_stands_beside_the_best_of_the_prediction() -> None:
    image = np.full((40, 80, 3), 128, np.uint8)
    names = ("cat", "dog", "cow", "hen")
    pair = class_beside_prediction(image, "a.jpg", 3, np.array([4.0, 3.0, 2.0, 1.0]), names)
    assert pair.shape == (22 + 160, 320 + 4 + 320, 3)
    left = pair[:, :320]
    right = pair[:, 324:]
    assert [has_color(left, class_id) for class_id in range(4)] == [False, False, False, True]
    assert [has_color(right, class_id) for class_id in range(4)] == [True, True, True, False]

"""Detections in original pixels, and as rows."""

import numpy as np

from mindyolo_v4.boxes import letterbox_geometry
from mindyolo_v4.evaluation.detections import (
    DETECTION_COLUMNS,
    Detections,
    detection_rows,
    detections_by_image,
)


def test_to_original_drops_what_lies_in_the_border():
    geometry = letterbox_geometry(200, 100, 64)  # 64 x 32 at (0, 16), scale 0.32
    boxes = np.array([[32, 32, 48, 64], [0, 0, 64, 10]], np.float32)
    moved = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([3, 1])).to_original(
        geometry
    )
    np.testing.assert_allclose(moved.boxes_xyxy_px, [[100, 50, 150, 100]], rtol=1e-6)
    assert moved.class_ids.tolist() == [3]


def test_detections_come_back_from_rows_image_by_image():
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32) / np.float32(3)
    found = Detections(boxes, np.array([0.9, 1 / 3], np.float32), np.array([79, 0]))
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    rows = np.concatenate([detection_rows(2**24 - 1, found), detection_rows(7, none)])
    rows = np.concatenate([rows, detection_rows(3, found)])
    assert (rows.dtype, rows.shape) == (np.float32, (4, DETECTION_COLUMNS))
    back = dict(detections_by_image(rows))
    assert list(back) == [3, 2**24 - 1]
    for one in back.values():
        assert one.boxes_xyxy_px.tobytes() == boxes.tobytes()
        assert one.scores.tobytes() == found.scores.tobytes()
        assert one.class_ids.tolist() == [79, 0]
    assert list(detections_by_image(rows[:0])) == []

"""Samples are cut to their largest boxes; a packed split gives back what its records hold."""

import numpy as np

from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.data.sample import PackedRecords, Sample, keep_largest


def record(path, boxes=((10, 10, 50, 40),), class_ids=(0,), ignore=(False,)):
    flags = np.array(ignore, bool)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(
        path=path,
        width=80,
        height=60,
        boxes_xyxy_px=boxes,
        class_ids=np.array(class_ids, np.int64),
        ignore=flags,
        crowd=flags,
        areas_px=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float64),
        image_id=path.stem,
        label_path="labels.json",
    )


def test_keep_largest_keeps_the_order():
    boxes = np.array(
        [[0, 0, 2, 2], [0, 0, 9, 9], [0, 0, 4, 4], [0, 0, 3, 3], [5, 5, 9, 9]], np.float32
    )
    kept = keep_largest(Sample(np.zeros((9, 9, 3), np.uint8), boxes, np.arange(5)), 2)
    assert kept.class_ids.tolist() == [1, 2]  # the first of the two equal ones
    assert kept.boxes_xyxy_px.tolist() == boxes[[1, 2]].tolist()


def test_packed_records_have_the_trainable_boxes_only(tmp_path):
    records = [
        record(tmp_path / "a.png", [[0, 0, 5, 5], [1, 1, 9, 9]], [3, 4], [True, False]),
        record(tmp_path / "negative.png", [], [], []),
        record(tmp_path / "grüße.png", [[2, 2, 4, 4]], [1]),
    ]
    table = PackedRecords(records)
    assert [table.path(index) for index in range(3)] == [one.path for one in records]
    assert [table.targets(index)[1].tolist() for index in range(3)] == [[4], [], [1]]
    assert table.targets(0)[0].tolist() == [[1, 1, 9, 9]]
    assert table.targets(1)[0].shape == (0, 4)

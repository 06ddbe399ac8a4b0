"""Samples are cut to their largest boxes."""

import numpy as np

from mindyolo_v4.data.sample import Sample, keep_largest


def test_keep_largest_keeps_the_order():
    boxes = np.array(
        [[0, 0, 2, 2], [0, 0, 9, 9], [0, 0, 4, 4], [0, 0, 3, 3], [5, 5, 9, 9]], np.float32
    )
    kept = keep_largest(Sample(np.zeros((9, 9, 3), np.uint8), boxes, np.arange(5)), 2)
    assert kept.class_ids.tolist() == [1, 2]  # the first of the two equal ones
    assert kept.boxes_xyxy_px.tolist() == boxes[[1, 2]].tolist()

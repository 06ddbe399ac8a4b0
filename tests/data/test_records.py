"""Packed records give back what was packed, and forked processes share their memory."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.data.records import Dataset, ImageRecord, Records


def record(path, boxes=((10, 10, 50, 40),), class_ids=(0,), ignore=(False,), image_id=1):
    flags = np.array(ignore, bool)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(
        path=Path(path),
        width=80,
        height=60,
        boxes_xyxy_px=boxes,
        class_ids=np.array(class_ids, np.int64),
        ignore=flags,
        crowd=~flags,
        areas_px=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float64),
        image_id=image_id,
        label_path="",
    )


PACKED = [
    record("/a.png", [[0, 0, 5, 5], [1, 1, 9, 9]], [3, 4], [True, False], image_id=7),
    record("/no objects.JPG", [], [], [], image_id="seven"),
    record("/gr\u00fc\udce9.jpeg", [[2, 2, 4, 4]], [1], image_id=2**70),  # not UTF-8 on the disk
]


def test_records_come_back_as_they_were():
    records = Records(PACKED)
    assert len(records) == 3
    for before, after in zip(PACKED, records, strict=True):
        for field in fields(ImageRecord):
            expected = vars(before)[field.name]
            value = vars(after)[field.name]
            np.testing.assert_array_equal(value, expected)
            assert type(value) is type(expected)
            assert not isinstance(value, np.ndarray) or value.dtype == expected.dtype


def test_records_are_a_sequence():
    records = Records(PACKED)
    assert records[-1].path == PACKED[2].path
    assert [one.image_id for one in records[1:]] == ["seven", 2**70]
    with pytest.raises(IndexError):
        records[3]
    assert Records(PACKED[:1])[0].image_id == 7
    assert list(Records(())) == []


def test_loaders_see_the_trainable_boxes_only():
    records = Records(PACKED)
    assert [records.targets(index)[1].tolist() for index in range(3)] == [[4], [], [1]]
    assert records.targets(0)[0].tolist() == [[1, 1, 9, 9]]
    assert records.targets(1)[0].shape == (0, 4)
    assert [column.tolist() for column in records.objects()] == [[0, 2], [4, 1]]
    assert records.are_jpeg().tolist() == [False, True, True]
    assert Dataset(records, tuple("abcde"), (), "set", ()).summary() == (
        "set: 3 images, 2 boxes, 5 classes"
    )


FORK = """
import gc, json, os, sys
from pathlib import Path
import numpy as np
import psutil
from mindyolo_v4.data.records import ImageRecord, Records

boxes = np.ones((7, 4), np.float32)
ids = np.ones(7, np.int64)
flags = np.zeros(7, bool)
made = (
    ImageRecord(Path(f"/images/{k}.jpg"), 9, 9, boxes, ids, flags, flags, np.ones(7), k, "")
    for k in range(int(sys.argv[1]))
)
records = (Records if sys.argv[2] == "packed" else tuple)(made)
gc.collect()
child = os.fork()
if child == 0:
    for record in records:
        record.class_ids
    gc.collect()
    print(json.dumps(psutil.Process().memory_full_info().uss / 1e6), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def own_megabytes(count: int, kind: str) -> float:
    """Return the memory that a forked process has for itself when it has read every record."""
    command = [sys.executable, "-c", FORK, str(count), kind]
    # Memory is copied by the page, so without the large pages that the tests allow.
    small_pages = {**os.environ, "GLIBC_TUNABLES": ""}
    done = subprocess.run(command, env=small_pages, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def test_a_forked_process_copies_nothing_of_many_records():
    least = own_megabytes(100, "packed")
    assert own_megabytes(30_000, "packed") - least < 2
    assert own_megabytes(30_000, "objects") - least > 10  # what the packing is for

"""The MindData pipelines: same batches for any workers and start, notes, errors, processes."""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.loader import pipeline
from mindyolo_v4.data.loader.epoch import epoch_permutation
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.loader.stream import TrainStream
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.errors import UserError

ALONE = Ranks()
DATA = DataConfig(
    img_size=32,
    augment=AugmentConfig(
        mosaic="canvas", mosaic_prob=0.5, scale=0.3, flip_prob=0.5, hue=0.1, value=0.2
    ),
)
PLAIN = DataConfig(img_size=32, resize="stretch", augment=AugmentConfig(mosaic="none"))


@pytest.fixture
def dataset(tmp_path):
    """Ten images; image i is of grey level 20 i and has i boxes of class i."""
    records = []
    for number in range(10):
        path = tmp_path / f"image{number}.png"
        cv2.imwrite(str(path), np.full((30, 40, 3), 20 * number, np.uint8))
        boxes = np.tile(np.array([[4, 3, 20, 18]], np.float32), (number, 1))
        flags = np.zeros(number, bool)
        ids = np.full(number, number, np.int64)
        records.append(
            ImageRecord(
                path, 40, 30, boxes, ids, flags, flags, np.full(number, 240.0), number, "labels"
            )
        )
    return Dataset(Records(records), tuple("abcdefghij"), tuple(range(10)), "labels", ())


def padded(boxes_cxcywh, class_ids):
    """Stand in for the target assignment: 40 rows of truths, and the count."""
    table = np.zeros((40, 5), np.float32)
    table[: len(class_ids), :4], table[: len(class_ids), 4] = boxes_cxcywh, class_ids
    return table, np.array(len(class_ids), np.int64)


def failing(boxes_cxcywh, class_ids):
    if len(class_ids) and class_ids[0] == 3:
        raise KeyError("a failing assignment")
    return padded(boxes_cxcywh, class_ids)


def stream(dataset, data=PLAIN, workers=1, assign=padded, batch=2, ranks=ALONE):
    samples = TrainSamples(dataset, data, seed=1, epochs=3)
    return TrainStream(samples, {data.img_size: assign}, batch, workers, ranks)


def arrays(batches):
    return [tuple(column.asnumpy() for column in batch) for batch in batches]


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for left, right in zip(one, other, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_no_children():
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert multiprocessing.active_children() == []


def test_batches_are_what_the_samples_are(dataset):
    train = stream(dataset)
    assert train.steps_per_epoch == 5
    batches = arrays(train.batches(0, 15))
    assert len(batches) == 15
    for number, (images, tables, counts) in enumerate(batches):
        assert images.shape == (2, 3, 32, 32) and images.dtype == np.uint8
        assert tables.shape == (2, 40, 5) and tables.dtype == np.float32
        expected = epoch_permutation(1, number // 5, 10)[number % 5 * 2 : number % 5 * 2 + 2]
        assert counts.tolist() == expected.tolist()
        assert images[:, 0, 0, 0].tolist() == (20 * expected).tolist()
        for table, count in zip(tables, counts, strict=True):
            # (4 + 20) / 2 / 40, (3 + 18) / 2 / 30, 16 / 40, 15 / 30
            np.testing.assert_allclose(
                table[:count, :4], np.tile([0.3, 0.35, 0.4, 0.5], (count, 1)), atol=1e-6
            )
    assert train.report() == {"truths_dropped": 0, "unreadable": {}}
    assert_no_children()


def test_worker_count_and_start_do_not_change_the_batches(dataset):
    one = arrays(stream(dataset, DATA, workers=1).batches(0, 12))
    two = arrays(stream(dataset, DATA, workers=2).batches(0, 12))
    four = arrays(stream(dataset, DATA, workers=4).batches(7, 12))
    assert_same(one, two)
    assert_same(one[7:], four)
    assert_same(one[:5], arrays(stream(dataset, DATA, workers=2).batches(0, 5)))
    assert_no_children()


def sized_stream(dataset, data=DATA, workers=1, ranks=ALONE, growing_epochs=None):
    def of_size(size):
        return lambda boxes, ids: (*padded(boxes, ids), np.array(size, np.int64))

    samples = TrainSamples(dataset, replace(data, img_size=96), seed=1, epochs=30)
    assign = {size: of_size(size) for size in (32, 64, 96)}
    return TrainStream(samples, assign, 2, workers, ranks, growing_epochs=growing_epochs)


def test_sizes_that_grow_follow_the_number_of_epochs(dataset):
    growing = sized_stream(dataset, growing_epochs=3)
    steps = growing.steps_per_epoch
    sides = [images.shape[-1] for images, *_ in arrays(growing.batches(0, 3 * steps))]
    assert sides == [32] * steps + [64] * steps + [96] * steps
    growing.set_epochs(6)
    (first, *_), *_ = arrays(growing.batches(3 * steps - 1, 3 * steps))
    assert first.shape[-1] == 64  # the third epoch of six


def test_sizes_change_with_the_steps_and_not_with_workers_start_or_device(dataset):
    one = arrays(sized_stream(dataset).batches(0, 60))
    sizes = [batch[0].shape[-1] for batch in one]
    assert set(sizes) == {32, 64, 96}
    for number, (images, _, _, assigned) in enumerate(one):
        assert images.shape == (2, 3, sizes[number], sizes[number])
        assert assigned.tolist() == [sizes[number]] * 2
        assert sizes[number] == sizes[number // 10 * 10]
    assert_same(one[23:], arrays(sized_stream(dataset, workers=2).batches(23, 60)))
    rank = sized_stream(dataset, ranks=SimpleNamespace(rank=1, size=2))
    of_device = [batch[0].shape[-1] for batch in arrays(rank.batches(0, 60))]
    assert of_device == sizes
    assert_no_children()


def test_sizes_leave_each_image_once_in_an_epoch(dataset):
    batches = arrays(sized_stream(dataset, PLAIN).batches(0, 50))
    for first in range(0, 50, 5):
        counts = np.concatenate([batch[2] for batch in batches[first : first + 5]])
        assert sorted(counts.tolist()) == list(range(10))  # image i has i boxes
        # boxes are fractions of the image, whatever its size
        for _, tables, own, _ in batches[first : first + 5]:
            for table, count in zip(tables, own, strict=True):
                np.testing.assert_allclose(
                    table[:count, :4], np.tile([0.3, 0.35, 0.4, 0.5], (count, 1)), atol=1e-6
                )


@pytest.mark.parametrize("workers", [1, 2])
def test_decoded_images_that_are_kept_do_not_change_the_batches(dataset, monkeypatch, workers):
    kept = stream(dataset, DATA, workers)
    with monkeypatch.context() as patched:
        patched.setattr("mindyolo_v4.data.loader.decode_cache.CACHE_BYTES", 0)
        decoded = stream(dataset, DATA, workers)
    assert_same(arrays(kept.batches(0, 15)), arrays(decoded.batches(0, 15)))
    # the processes share what they decode: 30 samples of one image or four
    assert kept.samples.images.cache.decodes < 60 < decoded.samples.images.cache.decodes


def test_a_long_training_in_several_pipelines_is_the_same(dataset, monkeypatch):
    whole = arrays(stream(dataset, DATA).batches(1, 9))
    monkeypatch.setattr("mindyolo_v4.data.loader.stream.BATCHES_PER_PIPELINE", 3)
    assert_same(whole, arrays(stream(dataset, DATA, workers=2).batches(1, 9)))


def test_devices_share_an_epoch_without_overlap(dataset):
    streams = [stream(dataset, ranks=SimpleNamespace(rank=rank, size=2)) for rank in range(2)]
    assert [one.steps_per_epoch for one in streams] == [2, 2]
    counts = [np.concatenate([batch[2] for batch in arrays(one.batches(2, 4))]) for one in streams]
    order = epoch_permutation(1, 1, 10)
    assert counts[0].tolist() == order[[0, 2, 4, 6]].tolist()
    assert counts[1].tolist() == order[[1, 3, 5, 7]].tolist()


def test_too_large_a_batch_is_an_error(dataset):
    with pytest.raises(
        UserError, match=r"train.per_batch_size: .*got 6 x 2 devices, expected at most 10 in all"
    ):
        stream(dataset, batch=6, ranks=SimpleNamespace(rank=0, size=2))


def test_unreadable_images_are_replaced_and_reported(dataset, caplog):
    order = epoch_permutation(1, 0, 10)
    dataset.records[order[4]].path.write_bytes(b"")
    train = stream(dataset, workers=2)
    counts = np.concatenate([batch[2] for batch in arrays(train.batches(0, 5))])
    assert counts.tolist() == [*order[:4], order[5], *order[5:]]
    assert train.report()["unreadable"] == {str(dataset.records[order[4]].path): 1}
    assert [
        f"{dataset.records[order[4]].path}: could not be decoded" in line
        for line in caplog.messages
    ] == [True]


def test_dropped_truths_are_reported(dataset):
    data = DataConfig(img_size=32, max_truths=4, augment=AugmentConfig(mosaic="none"))
    train = stream(dataset, data)
    counts = np.concatenate([batch[2] for batch in arrays(train.batches(0, 5))])
    assert sorted(counts.tolist()) == [0, 1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert train.report()["truths_dropped"] == 1 + 2 + 3 + 4 + 5


@pytest.mark.parametrize("workers", [1, 2])
def test_all_unreadable_is_a_user_error(dataset, workers):
    for record in dataset.records:
        record.path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"labels: not one of its images can be read"):
        list(stream(dataset, workers=workers).batches(0, 2))
    assert_no_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_sample_shows_its_file_and_its_traceback(dataset, workers):
    index = epoch_permutation(1, 0, 10).tolist().index(3)
    with pytest.raises(RuntimeError) as caught:
        list(stream(dataset, workers=workers, assign=failing).batches(0, 5))
    text = str(caught.value)
    assert f"{dataset.records[3].path} (seed 1, epoch 0, index {index})" in text
    assert "a failing assignment" in text and "test_stream.py" in text and "in failing" in text
    assert_no_children()


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_batches_come_in_order_when_the_training_is_slow(dataset, batch):
    train = stream(dataset, workers=2, batch=batch)
    counts = []
    for number, (_, _, count) in enumerate(train.batches(0, 3 * train.steps_per_epoch)):
        if number < 2:
            time.sleep(0.2)  # the processes fill their queues meanwhile
        counts.append(count.asnumpy())
    used = train.steps_per_epoch * batch
    assert np.concatenate(counts).tolist() == [
        i for epoch in range(3) for i in epoch_permutation(1, epoch, 10)[:used]
    ]


def test_a_batch_stays_as_it_is_while_others_are_made(dataset):
    train = stream(dataset, workers=2)
    held = [
        (batch, [column.asnumpy().copy() for column in batch]) for batch in train.batches(0, 15)
    ]
    for batch, copies in held:
        for column, copy in zip(batch, copies, strict=True):
            np.testing.assert_array_equal(column.asnumpy(), copy)


@pytest.mark.slow  # MindSpore waits for two seconds per worker
def test_closing_early_ends_the_processes(dataset):
    others = children()  # those that earlier tests of this process left, such as multiprocessing's
    batches = stream(dataset, DATA, workers=2).batches(0, 15)
    next(batches)
    assert len(multiprocessing.active_children()) >= 2
    batches.close()
    assert_no_children()
    assert children() <= others


def children():
    """Return the live processes that this one started."""
    return {
        pid
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and parent_of(pid) == os.getpid()
    }


def parent_of(process):
    """Return the parent's id of a live process, None for one that has ended."""
    try:
        status = (process / "status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return None if fields["State"].startswith("Z") else int(fields["PPid"])


def reporting(boxes_cxcywh, class_ids):
    """Tell where a row was made, and with how many OpenCV threads."""
    return np.array([os.getpid(), cv2.getNumThreads()], np.int64), np.zeros(1, np.float32)


def test_rows_are_made_in_worker_processes_with_one_thread(dataset):
    rows = np.concatenate(
        [batch[1] for batch in arrays(stream(dataset, workers=2, assign=reporting).batches(0, 5))]
    )
    assert len(set(rows[:, 0].tolist())) == 2 and os.getpid() not in rows[:, 0]
    assert set(rows[:, 1].tolist()) == {1}


def test_batches_go_through_pipes_where_shared_memory_is_short(dataset, monkeypatch):
    data = replace(DATA, img_size=64)
    expected = arrays(stream(dataset, data, workers=2).batches(0, 5))
    # enough for two workers, but not for what waits between them and this process
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=300_000))
    limits = []

    def spy(*arguments, **options):
        limits.append(options.get("max_rowsize"))
        return dataset_of(*arguments, **options)

    dataset_of = pipeline.ds.GeneratorDataset
    monkeypatch.setattr(pipeline.ds, "GeneratorDataset", spy)
    assert_same(expected, arrays(stream(dataset, data, workers=2).batches(0, 5)))
    told = arrays(stream(dataset, data, workers=2, assign=reporting).batches(0, 5))
    assert limits == [0, 0]
    assert os.getpid() not in np.concatenate([batch[1] for batch in told])[:, 0]
    assert_no_children()

"""The shared memory in which batches are put together: order, waiting, and the end of it."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from mindyolo_v4.data.loader.batch_ring import BatchRing

FORK = multiprocessing.get_context("fork")
TABLES = (np.zeros((2, 3), np.float32), np.zeros((), np.int64))


def write(ring, rows, written=None):
    for row in rows:
        image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3) + row
        ring.write(
            row, image.astype(np.uint8), (np.full((2, 3), row + 0.5, np.float32), np.array(-row))
        )
        if written:
            written.put(row)


def assert_batch(columns, rows):
    images, values, counts = columns
    assert images.dtype == np.uint8 and values.dtype == np.float32 and counts.dtype == np.int64
    assert images[:, :, 0, 0].tolist() == [
        [row, row + 1, row + 2] for row in rows
    ]  # channels first
    assert images[:, 0, 0].tolist() == [[row, row + 3, row + 6, row + 9] for row in rows]
    assert (values == np.array(rows)[:, None, None] + 0.5).all() and values.shape == (
        len(rows),
        2,
        3,
    )
    assert counts.tolist() == [-row for row in rows]


def test_a_batch_is_what_was_written():
    ring = BatchRing(3, 2, 4, TABLES)
    write(ring, [1, 0, 2, 3])
    assert_batch(ring.take(0), [0, 1])
    assert_batch(ring.take(1), [2, 3])


def test_a_taken_batch_is_a_copy():
    ring = BatchRing(1, 2, 4, TABLES)
    write(ring, [0, 1])
    first = ring.take(0)
    write(ring, [2, 3])
    assert_batch(first, [0, 1])
    assert_batch(ring.take(1), [2, 3])


def test_a_process_waits_until_its_place_is_free():
    ring = BatchRing(2, 2, 4, TABLES)
    written = FORK.SimpleQueue()
    writers = [
        FORK.Process(target=write, args=(ring, range(start, 12, 2), written)) for start in (0, 1)
    ]
    for writer in writers:
        writer.start()
    time.sleep(0.2)
    assert all(
        writer.is_alive() for writer in writers
    )  # rows 4 and 5 have no place before batch 0 is taken
    done = set()
    for batch in range(6):
        rows = [2 * batch, 2 * batch + 1]
        while not done.issuperset(rows):
            done.add(written.get())
        assert max(done) < 2 * (batch + 2)
        assert_batch(ring.take(batch), rows)
    for writer in writers:
        writer.join(10)
    assert [writer.exitcode for writer in writers] == [0, 0]


def test_closing_lets_everybody_go():
    ring = BatchRing(1, 1, 4, TABLES)
    writer = FORK.Process(target=write, args=(ring, range(50)))
    writer.start()
    time.sleep(0.1)
    assert writer.is_alive()
    ring.close()
    writer.join(10)
    assert writer.exitcode == 0


def test_nobody_waits_for_a_training_that_was_killed(monkeypatch):
    ring = BatchRing(1, 1, 4, TABLES)
    write(ring, [0])
    monkeypatch.setattr(ring, "_owner", os.getpid() + 10**7)  # as in a process whose parent is gone
    write(ring, [1])  # returns
    assert_batch(ring.take(0), [0])


def test_a_row_needs_all_its_tables():
    ring = BatchRing(1, 1, 4, TABLES)
    with pytest.raises(ValueError, match="shorter"):
        ring.write(0, np.zeros((4, 4, 3), np.uint8), TABLES[:1])
    assert BatchRing(1, 1, 4, (np.zeros((0, 3)),)).take(0)[1].shape == (1, 0, 3)

"""How many processes make batches, and how many batches wait."""

import os

import pytest

from mindyolo_v4 import environment
from mindyolo_v4.data.loader.pipeline import prefetch_size, worker_count


@pytest.mark.parametrize("free", [0, 2**17])
def test_without_shared_memory_a_thread_reads(monkeypatch, caplog, free):
    free_bytes = "mindyolo_v4.data.loader.pipeline._shared_memory_bytes"
    monkeypatch.setattr(free_bytes, lambda: free)
    assert worker_count(2, 1) == 1
    assert caplog.messages == ["/dev/shm is full or missing: one thread reads the images, not 2"]
    assert worker_count(1, 1) == 1


def test_worker_count():
    assert worker_count(1, 8) == 1
    assert worker_count(10**6, 1) == os.cpu_count()  # MindData refuses more
    assert worker_count(None, 10**6) == 1
    assert 1 <= worker_count(None, 1) <= 8


def test_a_device_has_a_process_per_core_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(environment, "cores_of_process", lambda devices: 48 // devices)
    assert [worker_count(None, devices) for devices in (2, 8, 64)] == [8, 6, 1]


def test_fewer_large_batches_are_made_in_advance():
    assert prefetch_size(batch_bytes=2 * 3 * 32**2, workers=2) == 4
    assert prefetch_size(batch_bytes=16 * 3 * 608**2, workers=2) == 2  # 96 MB over 2 x 17.7 MB
    assert prefetch_size(batch_bytes=256 * 3 * 608**2, workers=8) == 1

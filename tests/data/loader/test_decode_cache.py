"""The cache of decoded images: right whatever other processes do, with bounded memory."""

import multiprocessing

import numpy as np
import pytest

from mindyolo_v4.data.loader import decode_cache
from mindyolo_v4.data.loader.decode_cache import CACHE_BYTES, DecodeCache, slot_bytes


def picture(image, height=4, width=5):
    return np.full((height, width, 3), image, np.uint8)


def never():
    raise AssertionError("decoded again")


def level(cache, place, image):
    """Read an image through the cache and return the one grey level that it has."""
    pixels = cache.read(place, image, lambda: picture(image))
    assert (pixels == pixels[0, 0, 0]).all()
    return int(pixels[0, 0, 0])


def test_an_image_is_decoded_once_and_copied_after_that():
    cache = DecodeCache(4, 60)
    first = cache.read(2, 7, lambda: np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    second = cache.read(2, 7, never)
    np.testing.assert_array_equal(first, second)
    second[:] = 0  # a copy: what the sample does to it stays with the sample
    np.testing.assert_array_equal(cache.read(2, 7, never), first)
    assert cache.decodes == 1


def test_smaller_images_keep_their_shape():
    cache = DecodeCache(2, 60)
    assert cache.read(0, 1, lambda: picture(1, 2, 3)).shape == (2, 3, 3)
    assert cache.read(0, 1, never).shape == (2, 3, 3)


def test_a_later_image_takes_the_slot():
    cache = DecodeCache(4, 60)
    assert [level(cache, place, place + 50) for place in (1, 5, 1, 1)] == [51, 55, 51, 51]
    assert cache.decodes == 3
    assert level(cache, 1, 99) == 99  # the same place of another order


def test_an_image_larger_than_a_slot_is_not_kept():
    cache = DecodeCache(4, 60)
    assert cache.read(0, 1, lambda: picture(1, 5, 5)).shape == (5, 5, 3)
    with pytest.raises(AssertionError, match="decoded again"):
        cache.read(0, 1, never)


def test_without_slots_everything_is_decoded():
    cache = DecodeCache(0, 60)
    assert [level(cache, 3, 8), level(cache, 3, 8)] == [8, 8]
    assert cache.decodes == 2


def test_a_failing_decode_leaves_nothing_behind():
    cache = DecodeCache(4, 60)
    for _ in range(2):
        with pytest.raises(AssertionError, match="decoded again"):
            cache.read(0, 1, never)
    assert level(cache, 0, 1) == 1


# ---------------------------------------------------------------- other processes
def test_a_slot_whose_lock_is_never_given_back_is_done_without():
    cache = DecodeCache(2, 60)
    assert level(cache, 0, 1) == 1
    cache._locks[0].acquire()  # as by a process that was killed while it copied
    assert [level(cache, 0, 1), level(cache, 2, 3), level(cache, 1, 2), level(cache, 1, 2)] == [
        1,
        3,
        2,
        2,
    ]
    assert cache.decodes == 4
    cache._locks[0].release()
    assert cache.read(0, 1, never)[0, 0, 0] == 1


def test_a_slot_that_was_left_half_written_holds_no_image(monkeypatch):
    class Killed:
        def __setitem__(self, *_):
            raise KeyboardInterrupt

    cache = DecodeCache(1, 60)
    assert level(cache, 0, 1) == 1
    with monkeypatch.context() as patched:
        patched.setattr(cache, "_slot", lambda *_: Killed())
        with pytest.raises(KeyboardInterrupt):
            cache.read(0, 2, lambda: picture(2))
    assert [level(cache, 0, 1), level(cache, 0, 1)] == [1, 1]
    assert cache.decodes == 3


def test_a_slot_that_changes_before_it_is_locked_is_not_taken_for_the_image():
    class Overtaken:
        def acquire(self, **_):
            cache._table[0, 0] = 5 + 1
            cache._slot(0, 4, 5)[:] = 5
            return True

        def release(self):
            pass

    cache = DecodeCache(1, 60)
    assert level(cache, 0, 1) == 1
    cache._locks[0] = Overtaken()
    assert level(cache, 0, 1) == 1


def test_forked_processes_share_what_one_of_them_decoded():
    cache = DecodeCache(4, 60)
    child = multiprocessing.get_context("fork").Process(target=level, args=(cache, 3, 9))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert cache.read(3, 9, never)[0, 0, 0] == 9
    assert cache.decodes == 1


def read_many(cache, first):
    for number in range(first, first + 3000):
        image = number % 7  # more images than slots: each pushes out another
        if level(cache, image, image) != image:
            raise SystemExit(1)


def test_processes_that_overwrite_each_other_read_what_they_asked_for():
    cache = DecodeCache(3, 60)
    children = [
        multiprocessing.get_context("fork").Process(target=read_many, args=(cache, 3 * n))
        for n in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]


# ---------------------------------------------------------------- memory
@pytest.mark.parametrize("size", [1, 300, 2**20, 10 * 2**20, 256 * 2**20, 2**30])
def test_memory_is_bounded(size):
    cache = DecodeCache(128, size)
    assert cache.slots * size <= CACHE_BYTES
    assert cache.slots == min(128, 256 * 2**20 // size)
    assert level(cache, 5, 4) == 4
    assert DecodeCache(10**6, 1).slots == decode_cache.MOST_SLOTS


def test_a_slot_is_as_large_as_the_memory_allows_for_all_of_them():
    sizes = np.array([[100, 50]] * 95 + [[200, 100]] * 5)
    assert slot_bytes(sizes, 128) == 3 * 20_000  # all images fit 128 times
    assert (
        slot_bytes(np.array([[1000, 500]] * 39 + [[10_000, 9000]]), 128) == 2**21
    )  # 256 MB / 128; without the giant
    assert (
        slot_bytes(np.array([[2000, 1000]] * 20), 128) == 3 * 2_000_000
    )  # fewer slots, but large enough

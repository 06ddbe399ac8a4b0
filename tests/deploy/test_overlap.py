"""Reading ahead and writing behind: order, bounds, errors."""

import threading
import time
from collections.abc import Iterator

import pytest

from mindyolo_v4.deploy.overlap import DEPTH, WriteBehind, read_ahead


def test_items_come_in_order_and_few_are_read_in_advance() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    taken = []
    for item in read_ahead(items(), lambda: None):
        taken.append(item)
        time.sleep(0.001)
        assert len(read) <= item + 1 + DEPTH
    assert taken == list(range(50))


def test_the_check_runs_while_an_item_is_waited_for() -> None:
    release = threading.Event()
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 2:
            release.set()
            raise KeyError("stop")

    def items() -> Iterator[int]:
        release.wait(10)
        yield 1

    with pytest.raises(KeyError, match="stop"):
        next(read_ahead(items(), check))


def test_an_error_of_the_reader_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = read_ahead(items(), lambda: None)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_writing_is_in_order_and_complete_after_the_block() -> None:
    written: list[int] = []

    def write(number: int) -> None:
        time.sleep(0.002)
        written.append(number)

    with WriteBehind() as writer:
        for number in range(20):
            writer.put(write, number)
            assert number - len(written) <= DEPTH
    assert written == list(range(20))


def test_an_error_of_the_writer_ends_the_block() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), WriteBehind() as writer:
        writer.put(fail)

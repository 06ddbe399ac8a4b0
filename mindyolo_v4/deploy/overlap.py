"""Reading and writing in threads of their own, beside the network, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

DEPTH = 4  # items that are read in advance, or wait to be written
_PATIENCE_S = 0.1  # between two looks at the signals, where reading takes long


def read_ahead(items: Iterator[T], check: Callable[[], None]) -> Iterator[T]:
    """Yield the items of an iterator that runs in a thread, at most `DEPTH` in advance.

    Args:
        check: called between two items and while one is waited for; it may raise.
    """
    end = object()
    pool = ThreadPoolExecutor(1, "reader")
    pending: deque[Future[Any]] = deque()
    try:
        while True:
            while len(pending) < DEPTH:
                pending.append(pool.submit(next, items, end))
            check()
            while not pending[0].done():
                wait([pending[0]], _PATIENCE_S)
                check()
            item = pending.popleft().result()
            if item is end:
                return
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Calls functions in a thread, in their order; at most `DEPTH` of them wait.

    An error of one is raised by a later `put`, or at the end of the block, which waits for all.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._pending: deque[Future[None]] = deque()

    def put(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function soon."""
        while len(self._pending) >= DEPTH:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(function, *arguments))

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

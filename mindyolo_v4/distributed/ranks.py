"""Which device of how many a process is, and what the devices exchange outside a graph."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LONGEST_TEXT = 4096  # characters that `text_of_rank_0` can carry


class Exchange(Protocol):
    """How several devices exchange float32 arrays, by MindSpore (`collectives`)."""

    def sum(self, values: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def gather(self, rows: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def take_from_rank_0(self, parameters: Iterable[Any]) -> None: ...


@dataclass(frozen=True)
class Ranks:
    """Which device of how many this process is.

    Every device must call the same methods in the same order. One device exchanges nothing, and
    needs no MindSpore.
    """

    rank: int = 0
    size: int = 1
    exchange: Exchange | None = None  # of several devices

    def sum(self, counts: Sequence[int]) -> list[int]:
        """Return the sums of counts over all devices; each sum must be below 2^24."""
        if self.exchange is None:
            return list(counts)
        sums = self.exchange.sum(np.array(counts, np.float32))
        return [round(float(count)) for count in sums]

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on any device, so that all leave a loop together."""
        return self.sum([int(flag)])[0] > 0

    def wait(self) -> None:
        """Return when every device has come here."""
        self.sum([0])

    def gather_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows (N, K) of all devices in the order of ranks; N differs by device."""
        if self.exchange is None:
            return rows
        counts = self.sum([len(rows) if rank == self.rank else 0 for rank in range(self.size)])
        longest = max(counts)
        if longest == 0:
            return rows
        padded = np.zeros((longest, rows.shape[1]), np.float32)
        padded[: len(rows)] = rows
        parts = self.exchange.gather(padded).reshape(self.size, longest, rows.shape[1])
        return np.concatenate([part[:count] for part, count in zip(parts, counts, strict=True)])

    def take_from_rank_0(self, parameters: Iterable[Any]) -> None:
        """Give every parameter of MindSpore the value that it has on rank 0."""
        if self.exchange is not None:
            self.exchange.take_from_rank_0(parameters)

    def text_of_rank_0(self, text: str) -> str:
        """Return on every rank the text of rank 0; the texts of the other ranks must be empty."""
        if self.exchange is None:
            return text
        codes = np.zeros(LONGEST_TEXT, np.float32)
        codes[: len(text)] = [ord(letter) for letter in text]
        return "".join(chr(int(code)) for code in self.exchange.sum(codes) if code > 0)

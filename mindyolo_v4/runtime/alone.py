"""The runtime of a command that runs without MindSpore, in one process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mindyolo_v4.distributed.heartbeat import Heartbeat


class AnyRanks(Protocol):
    """Which process of how many this is: `distributed.collectives.Ranks`, or one alone."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, counts: Sequence[int]) -> list[int]: ...

    def any(self, flag: bool) -> bool: ...

    def text_of_rank_0(self, text: str) -> str: ...

    def wait(self) -> None: ...


class AnyRuntime(Protocol):
    """What a command of any back-end knows of its process."""

    @property
    def ranks(self) -> AnyRanks: ...

    @property
    def heartbeat(self) -> Heartbeat: ...


@dataclass(frozen=True)
class OneProcess:
    """A process that exchanges nothing."""

    rank: int = 0
    size: int = 1

    def sum(self, counts: Sequence[int]) -> list[int]:
        """Return the counts."""
        return list(counts)

    def any(self, flag: bool) -> bool:
        """Return the flag."""
        return flag

    def text_of_rank_0(self, text: str) -> str:
        """Return the text."""
        return text

    def wait(self) -> None:
        """Return at once."""


@dataclass(frozen=True)
class Alone:
    """The runtime of one process without MindSpore."""

    ranks: OneProcess = field(default_factory=OneProcess)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

"""The process of a command, with MindSpore or without it."""

from dataclasses import dataclass, field

from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.distributed.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class Process:
    """Which process of how many this is, and its line to the guard; by default it is alone."""

    ranks: Ranks = field(default_factory=Ranks)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

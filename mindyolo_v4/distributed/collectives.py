"""What the devices of one training tell each other outside of a step, in the operations that every backend has.

MindSpore's CPU backend knows float32 alone, and no maximum: counts and indices travel as float32, exact below 2^24.
"""

from collections.abc import Iterable

import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from mindyolo_v4.distributed.heartbeat import WATCH


def gather_rows(rows: NDArray[np.float32], rank: int, world_size: int) -> NDArray[np.float32]:
    """Return the rows (N, K) of all devices below each other, in the order of their ranks; N differs by device."""
    if world_size == 1:
        return rows
    own = np.zeros(world_size, np.float32)
    own[rank] = len(rows)
    counts = ops.AllReduce(ops.ReduceOp.SUM)(Tensor(own)).asnumpy().astype(np.int64)
    longest = int(counts.max())
    if longest == 0:
        return rows
    padded = np.zeros((longest, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    gathered = ops.AllGather()(Tensor(padded)).asnumpy().reshape(world_size, longest, rows.shape[1])
    return np.concatenate([part[:count] for part, count in zip(gathered, counts, strict=True)])


def take_from_rank_0(parameters: Iterable[Parameter], world_size: int) -> None:
    """Give every parameter the value that it has on rank 0."""
    if world_size == 1:
        return
    broadcast = ops.Broadcast(0)
    for parameter in parameters:
        values = parameter.asnumpy()
        shared = broadcast((Tensor(values.astype(np.float32).reshape(-1)),))[0].asnumpy()
        parameter.set_data(Tensor(shared.astype(values.dtype).reshape(values.shape)))


def leave_together(world_size: int) -> None:
    """Return when every device has come here: one that leaves early fails what the others are still at."""
    if world_size > 1:
        ops.AllReduce(ops.ReduceOp.SUM)(Tensor(np.zeros(1, np.float32))).asnumpy()
        WATCH.done()

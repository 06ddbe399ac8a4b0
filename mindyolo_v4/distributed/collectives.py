"""All that the devices of one training exchange, in operations that every backend has.

MindSpore's CPU backend exchanges float32 only and knows no maximum: counts and indices travel as
float32, exact below 2^24.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, communication, nn, ops
from numpy.typing import NDArray

from mindyolo_v4.cpu_ops.device import on_cpu

LONGEST_TEXT = 4096  # characters that `text_of_rank_0` can carry


@dataclass(frozen=True)
class Ranks:
    """Which device of how many this process is, and what it exchanges outside a graph.

    Every device must call the same methods in the same order. One device exchanges nothing.
    """

    rank: int = 0
    size: int = 1

    def sum(self, counts: Sequence[int]) -> list[int]:
        """Return the sums of counts over all devices; each sum must be below 2^24."""
        if self.size == 1:
            return list(counts)
        return [round(float(count)) for count in _sum(np.array(counts, np.float32))]

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on any device, so that all leave a loop together."""
        return self.sum([int(flag)])[0] > 0

    def wait(self) -> None:
        """Return when every device has come here."""
        self.sum([0])

    def gather_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows (N, K) of all devices in the order of ranks; N differs by device."""
        if self.size == 1:
            return rows
        counts = self.sum([len(rows) if rank == self.rank else 0 for rank in range(self.size)])
        longest = max(counts)
        if longest == 0:
            return rows
        padded = np.zeros((longest, rows.shape[1]), np.float32)
        padded[: len(rows)] = rows
        gathered = ops.AllGather()(Tensor(padded)).asnumpy()
        parts = gathered.reshape(self.size, longest, rows.shape[1])
        return np.concatenate([part[:count] for part, count in zip(parts, counts, strict=True)])

    def take_from_rank_0(self, parameters: Iterable[Parameter]) -> None:
        """Give every parameter the value that it has on rank 0."""
        if self.size == 1:
            return
        broadcast = ops.Broadcast(0)
        for parameter in parameters:
            values = parameter.asnumpy()
            flat = Tensor(values.astype(np.float32).reshape(-1))
            shared = broadcast((flat,))[0].asnumpy()
            parameter.set_data(Tensor(shared.astype(values.dtype).reshape(values.shape)))

    def text_of_rank_0(self, text: str) -> str:
        """Return on every rank the text of rank 0; the texts of the other ranks must be empty."""
        if self.size == 1:
            return text
        codes = np.zeros(LONGEST_TEXT, np.float32)
        codes[: len(text)] = [ord(letter) for letter in text]
        return "".join(chr(int(code)) for code in _sum(codes) if code > 0)


def joined_ranks() -> Ranks:
    """Return the ranks of the processes that have met; rank 0 of 1 before they have."""
    if not communication.GlobalComm.INITED:
        return Ranks()
    return Ranks(communication.get_rank(), communication.get_group_size())


def _sum(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return ops.AllReduce(ops.ReduceOp.SUM)(Tensor(values)).asnumpy()


class MeanOverRanks(nn.Cell):
    """Average one tensor over the devices, inside a graph."""

    def __init__(self, size: int):
        super().__init__(auto_prefix=False)
        self.size = size
        self.sum_over_ranks = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, value: Tensor) -> Tensor:
        return self.sum_over_ranks(value) / self.size


class AnyRank(nn.Cell):
    """Tell inside a graph, as a bool scalar, whether a flag is set on any device."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.sum_over_ranks = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, flag: Tensor) -> Tensor:
        count = self.sum_over_ranks(flag.astype(ms.float32).reshape((1,)))
        return (count >= 0.5).reshape(())


_flatten_each = ops.MultitypeFuncGraph("flatten_each")
_piece_each = ops.MultitypeFuncGraph("piece_each")


@_flatten_each.register("Tensor")
def _flatten(value):
    """Return the elements in one axis, float32."""
    return value.astype(ms.float32).reshape(-1)


@_piece_each.register("Tensor", "Number", "Tensor")
def _piece(flat, start, model):
    """Return the elements of `flat` from `start` on with the shape and type of `model`."""
    return ops.slice(flat, (start,), (model.size,)).reshape(model.shape).astype(model.dtype)


class MeansOverRanks(nn.Cell):
    """Average many tensors over the devices in one exchange: on a CPU each exchange takes its time.

    Args:
        models: parameters with the shapes of the tensors.
    """

    def __init__(self, models: ParameterTuple, size: int):
        super().__init__(auto_prefix=False)
        self.map = ops.HyperMap()
        self.starts = tuple(itertools.accumulate((model.size for model in models), initial=0))[:-1]
        self.mean = MeanOverRanks(size)

    def construct(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the means, each with the shape and type of its tensor."""
        mean = self.mean(ops.concat(self.map(_flatten_each, tensors)))
        return self.map(ops.partial(_piece_each, mean), self.starts, tensors)


def gradient_averager(parameters: ParameterTuple, size: int) -> nn.Cell:
    """Return the cell that averages gradients over the devices.

    Backends other than the CPU's join the exchanges of MindSpore's own reducer themselves.
    """
    if on_cpu():
        return MeansOverRanks(parameters, size)
    return nn.DistributedGradReducer(parameters)

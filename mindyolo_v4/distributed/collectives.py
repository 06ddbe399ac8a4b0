"""All that the devices of one training exchange, in operations that every backend has.

MindSpore's CPU backend exchanges float32 only and knows no maximum: counts and indices travel as
float32, exact below 2^24.
"""

import itertools
from collections.abc import Iterable

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, communication, nn, ops
from numpy.typing import NDArray

from mindyolo_v4.cpu_ops.device import on_cpu
from mindyolo_v4.distributed.ranks import Ranks


def joined_ranks() -> Ranks:
    """Return the ranks of the processes that have met; rank 0 of 1 before they have."""
    if not communication.GlobalComm.INITED or communication.get_group_size() == 1:
        return Ranks()
    return Ranks(communication.get_rank(), communication.get_group_size(), ArrayExchange())


class ArrayExchange:
    """What `Ranks` exchanges, outside a graph."""

    def sum(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of the values over all devices."""
        return ops.AllReduce(ops.ReduceOp.SUM)(Tensor(values)).asnumpy()

    def gather(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows of all devices in the order of ranks; each has as many."""
        return ops.AllGather()(Tensor(rows)).asnumpy()

    def take_from_rank_0(self, parameters: Iterable[Parameter]) -> None:
        """Give every parameter the value that it has on rank 0."""
        broadcast = ops.Broadcast(0)
        for parameter in parameters:
            values = parameter.asnumpy()
            flat = Tensor(values.astype(np.float32).reshape(-1))
            shared = broadcast((flat,))[0].asnumpy()
            parameter.set_data(Tensor(shared.astype(values.dtype).reshape(values.shape)))


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

"""The operations on each pair of two tuples, inside a graph, against NumPy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindyolo_v4.engine.mapping import (
    add_each,
    average_each,
    clear_each,
    half_squared_norm_each,
    scale_each,
    updates_at_once,
)
from tests.support.tiny import TinyNet

pytestmark = pytest.mark.usefixtures("graph_mode")
VALUES = (np.array([1.0, -2.0], np.float32), np.array([[3.0]], np.float32))


class Mapped(nn.Cell):
    """Apply one operation, with its first argument, to the held parameters and others."""

    def __init__(self, operation, first=None):
        super().__init__(auto_prefix=False)
        self.held = ParameterTuple(
            Parameter(Tensor(value), name=f"held{number}") for number, value in enumerate(VALUES)
        )
        self.operation = operation
        self.first = first
        self.has_first = first is not None
        self.map = ops.HyperMap()

    def construct(self, *others):
        if self.has_first:
            return self.map(ops.partial(self.operation, self.first), self.held, *others)
        return self.map(self.operation, self.held, *others)


def tensors(*values) -> tuple[Tensor, ...]:
    return tuple(Tensor(value) for value in values)


def test_values_are_added_by_share_and_cleared():
    cell = Mapped(add_each, 0.5)
    cell(tensors(*VALUES))
    for parameter, value in zip(cell.held, VALUES, strict=True):
        assert np.array_equal(parameter.asnumpy(), value * 1.5)
    cleared = Mapped(clear_each)
    cleared.held[0].set_data(Tensor(np.array([np.nan, 1.0], np.float32)))
    cleared()
    assert all(np.array_equal(one.asnumpy(), np.zeros(one.shape)) for one in cleared.held)


def test_averages_move_towards_the_live_values():
    cell = Mapped(average_each, Tensor(0.75, ms.float32))
    cell(tensors(*(np.zeros_like(value) for value in VALUES)))
    for parameter, value in zip(cell.held, VALUES, strict=True):
        assert np.array_equal(parameter.asnumpy(), value * 0.75)


def test_norms_and_scales():
    assert [float(one.asnumpy()) for one in Mapped(half_squared_norm_each)()] == [2.5, 4.5]
    scaled = Mapped(scale_each, Tensor(2.0, ms.float32))()
    assert [one.asnumpy().tolist() for one in scaled] == [[2.0, -4.0], [[6.0]]]


def test_a_network_of_stock_operators_is_not_updated_at_once():
    network = TinyNet()
    assert not updates_at_once(network, network.trainable_params())

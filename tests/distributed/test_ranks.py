"""What one device exchanges with itself, and how counts travel; several: test_two_workers.py."""

import numpy as np
import pytest
from mindspore import Parameter, Tensor

from mindyolo_v4.distributed.ranks import Ranks


def test_one_device_exchanges_nothing():
    alone = Ranks()
    rows = np.ones((2, 3), np.float32)
    assert alone.sum([3, 0, 50000]) == [3, 0, 50000]
    assert (alone.any(True), alone.any(False)) == (True, False)
    assert alone.gather_rows(rows) is rows
    assert alone.text_of_rank_0("runs/a") == "runs/a"
    value = Parameter(Tensor([1.0, 2.0]), name="value")
    alone.take_from_rank_0([value])
    alone.wait()
    assert value.asnumpy().tolist() == [1.0, 2.0]


class Added:
    """Stands for the exchange of several devices: the sum is that of a function."""

    def __init__(self, sum_of):
        self.sum = sum_of


def test_counts_are_summed_exactly():
    ranks = Ranks(0, 8, Added(lambda own: own * 8))
    assert ranks.sum([1281167, 7]) == [8 * 1281167, 56]  # below 2^24


@pytest.mark.parametrize(("others", "expected"), [(0.0, False), (1.0, True)])
def test_a_flag_of_any_device_counts(others, expected):
    ranks = Ranks(0, 2, Added(lambda own: own + np.float32(others)))
    assert ranks.any(False) is expected

"""The order of an epoch and the partners of a position: functions of seed, epoch and index."""

import pytest

from mindyolo_v4.data.loader.epoch import epoch_permutation, partner_positions


def test_every_epoch_has_its_own_permutation():
    orders = [epoch_permutation(7, epoch, 50) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert orders[0].tolist() != orders[1].tolist() != orders[2].tolist()
    assert orders[0].tolist() != epoch_permutation(8, 0, 50).tolist()


@pytest.mark.parametrize(("length", "window"), [(1000, 16), (10, 64), (5, 4)])
def test_partners_are_distinct_neighbours(length, window):
    for index in (0, 1, length // 2, length - 1):
        positions = partner_positions(3, 2, index, length, 4, window)
        assert positions[0] == index
        assert len(set(positions)) == 4
        assert all(
            0 <= position < length and abs(position - index) <= window for position in positions
        )
        assert positions == partner_positions(3, 2, index, length, 4, window)


def test_partners_repeat_only_where_there_are_too_few():
    assert partner_positions(0, 0, 0, 1, 4, 64) == (0, 0, 0, 0)
    positions = partner_positions(0, 0, 1, 3, 8, 64)
    assert positions[0] == 1 and len(positions) == 8 and set(positions[1:]) <= {0, 2}


def test_partners_change_with_epoch_and_seed():
    drawn = {
        partner_positions(seed, epoch, 50, 100, 4, 32) for seed in range(3) for epoch in range(3)
    }
    assert len(drawn) == 9

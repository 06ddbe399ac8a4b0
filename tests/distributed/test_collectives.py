"""What the devices exchange; several of them: test_two_workers.py."""

from mindyolo_v4.distributed.collectives import joined_ranks
from mindyolo_v4.distributed.ranks import Ranks


def test_a_process_that_met_no_other_is_rank_0_of_1():
    assert joined_ranks() == Ranks(0, 1)

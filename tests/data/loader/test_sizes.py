"""Which size a micro-batch has: a function of seed and optimizer step."""

from collections import Counter

import pytest

from mindyolo_v4.data.loader.sizes import TrainSizes

SIZES = (64, 96, 128)


def test_ten_steps_have_one_size():
    of_steps = TrainSizes(SIZES, seed=1, batches_per_epoch=7, accumulate=1)
    drawn = [of_steps.of_batch(number) for number in range(3000)]
    blocks = [set(drawn[first : first + 10]) for first in range(0, 3000, 10)]
    assert all(len(block) == 1 for block in blocks)
    counts = Counter(next(iter(block)) for block in blocks)
    assert set(counts) == set(SIZES)
    assert all(70 <= count <= 130 for count in counts.values())  # 100 expected
    assert drawn != [TrainSizes(SIZES, 2, 7, 1).of_batch(number) for number in range(3000)]


@pytest.mark.parametrize("accumulate", [2, 3])
def test_micro_batches_of_a_step_have_its_size(accumulate):
    """Epochs of 8 micro-batches: what is left over by a step does not count as a step."""
    steps_per_epoch = 8 // accumulate
    of_steps = TrainSizes(SIZES, 5, batches_per_epoch=steps_per_epoch, accumulate=1)
    sizes = TrainSizes(SIZES, 5, batches_per_epoch=8, accumulate=accumulate)
    for number in range(800):
        epoch, inside = divmod(number, 8)
        if inside < steps_per_epoch * accumulate:
            step = epoch * steps_per_epoch + inside // accumulate
            assert sizes.of_batch(number) == of_steps.of_batch(step)


def test_one_size_is_drawn_by_nothing():
    assert {TrainSizes((416,), 1, 5, 2).of_batch(number) for number in range(50)} == {416}


def test_growing_sizes_have_equal_shares_of_the_epochs():
    sizes = TrainSizes(SIZES, 1, batches_per_epoch=5, accumulate=2, growing_epochs=7)
    epochs = [{sizes.of_batch(5 * epoch + inside) for inside in range(5)} for epoch in range(7)]
    assert epochs == [{64}, {64}, {64}, {96}, {96}, {128}, {128}]

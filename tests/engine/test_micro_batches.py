"""Which micro-batches make a step, and how they are cut."""

import numpy as np
from mindspore import Tensor

from mindyolo_v4.engine.micro_batches import StepBatches, cut, stand_in


def batch(count: int, side: int = 6) -> tuple[Tensor, Tensor]:
    images = np.arange(count * 3 * side * side).reshape(count, 3, side, side).astype(np.uint8)
    return Tensor(images), Tensor(np.arange(count * 2, dtype=np.float32).reshape(count, 2))


def test_steps_take_micro_batches_and_pass_over_what_fills_none():
    steps = StepBatches(batches_per_epoch=5, accumulate=2, parts={6: 1})
    assert [steps.first_of(step) for step in range(5)] == [0, 2, 5, 7, 10]
    numbered = [(Tensor(np.full((1, 3, 6, 6), number)),) for number in range(10)]
    groups = [
        [int(one[0].asnumpy().max()) for one in group] for group in steps.grouped(numbered, 0)
    ]
    assert groups == [[0, 1], [2, 3], [5, 6], [7, 8]]
    late = [[int(one[0].asnumpy().max()) for one in g] for g in steps.grouped(numbered[5:], 5)]
    assert late == groups[2:]


def test_large_images_are_cut_into_equal_parts_in_their_order():
    steps = StepBatches(batches_per_epoch=4, accumulate=2, parts={6: 1, 12: 2})
    batches = [batch(4, 6), batch(4, 6), batch(4, 12), batch(4, 12)]
    small, large = steps.grouped(batches, 0)
    assert [len(one[0]) for one in small] == [4, 4]
    assert [len(one[0]) for one in large] == [2, 2, 2, 2]
    for column in range(2):
        joined = np.concatenate([one[column].asnumpy() for one in large[:2]])
        np.testing.assert_array_equal(joined, batches[2][column].asnumpy())
    assert cut(batches[0], 1) == [batches[0]]


def test_stand_in_has_the_types_of_a_batch():
    images, targets = stand_in(batch(4), size=64, count=2)
    assert (images.shape, targets.shape) == ((2, 3, 64, 64), (2, 2))
    assert (images.asnumpy().dtype, targets.asnumpy().dtype) == (np.uint8, np.float32)

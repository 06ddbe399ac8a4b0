"""Which micro-batches make a step, and how they are cut."""

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.micro_batches import StepBatches, cut, parts_by_size, stand_in
from mindyolo_v4.errors import UserError


def config(per_batch_size: int, sizes: tuple[int, ...] | None, img_size: int = 416) -> Config:
    train = TrainConfig(per_batch_size=per_batch_size, random_sizes=sizes)
    return Config(data=DataConfig(img_size=img_size), train=train)


def batch(count: int, side: int = 6) -> tuple[Tensor, Tensor]:
    images = np.arange(count * 3 * side * side).reshape(count, 3, side, side).astype(np.uint8)
    return Tensor(images), Tensor(np.arange(count * 2, dtype=np.float32).reshape(count, 2))


def test_parts_keep_images_times_area_below_that_of_the_batch():
    # 8 x 416^2 = 1,384,448; 8 x 480^2 = 1,843,200; 4 x 480^2 = 921,600; 4 x 608^2 = 1,478,656
    sizes = (320, 416, 480, 608)
    assert parts_by_size(config(8, sizes)) == {320: 1, 416: 1, 480: 2, 608: 4}
    # 6 x 608^2 = 2.14 x 6 x 416^2: 3 parts of 2
    assert parts_by_size(config(6, (608,))) == {608: 3}
    assert parts_by_size(config(7, (416, 448))) == {416: 1, 448: 7}
    assert parts_by_size(config(16, None)) == {416: 1}


def test_an_image_larger_than_the_batch_is_refused():
    with pytest.raises(UserError, match=r"train\.random_sizes: one image of 608 px .*at most 576"):
        parts_by_size(config(2, (416, 608)))
    # 576^2 = 331,776 <= 2 x 416^2 = 346,112
    assert parts_by_size(config(2, (576,))) == {576: 2}


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

"""The line that ends a training whose memory does not suffice."""

import pytest

from mindyolo_v4.config.recipe import build_config
from mindyolo_v4.engine.allocation import failed_allocation_as_user_error
from mindyolo_v4.errors import UserError

MESSAGES = (
    RuntimeError("Memory not enough: current free memory size 1 is smaller than required size 9"),
    RuntimeError("Malloc failed, size 1024"),
    RuntimeError("std::bad_alloc"),
    MemoryError("Unable to allocate 3.2 GiB for an array"),
)


@pytest.mark.parametrize("error", MESSAGES)
def test_a_failed_allocation_names_keys_and_values(error):
    config = build_config({"train": {"per_batch_size": 16, "accumulate": 4}})
    with pytest.raises(UserError) as caught, failed_allocation_as_user_error(config):
        raise error
    assert str(caught.value) == (
        "memory: an allocation failed: lower train.per_batch_size 16 (with 8 and train.accumulate "
        "8 instead of 4 the images per step stay 64 per device), data.img_size 608 or "
        "data.num_workers"
    )
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("images", "accumulate", "expected"),
    [(9, 1, "(with 3 and train.accumulate 3 instead"), (7, 2, "(with 1 and train.accumulate 14")],
)
def test_the_images_per_step_stay_the_same(images, accumulate, expected):
    config = build_config({"train": {"per_batch_size": images, "accumulate": accumulate}})
    with pytest.raises(UserError) as caught, failed_allocation_as_user_error(config):
        raise MemoryError
    assert expected in str(caught.value)


def test_one_image_and_several_sizes():
    config = build_config({"train": {"per_batch_size": 1, "random_sizes": [320, 608]}})
    with pytest.raises(UserError) as caught, failed_allocation_as_user_error(config):
        raise MemoryError
    lower = "lower the largest of train.random_sizes 608 or data.num_workers"
    assert str(caught.value).endswith(lower)


def test_another_error_stays_as_it_is():
    with (
        pytest.raises(RuntimeError, match="a shape is wrong"),
        failed_allocation_as_user_error(build_config({})),
    ):
        raise RuntimeError("a shape is wrong")

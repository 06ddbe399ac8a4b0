"""The line that ends a training whose memory does not suffice."""

import subprocess
import sys

import pytest

from mindyolo_v4.config.recipe import build_config
from mindyolo_v4.engine.allocation import failed_allocation_as_user_error
from mindyolo_v4.errors import UserError
from tests.support.launch import REPOSITORY, variables

MESSAGES = (  # the first two are MindSpore's in graph and in PyNative mode
    RuntimeError("- Memory not enough:\nMemory isn't enough and alloc failed, kernel name: Conv2D"),
    RuntimeError("Allocate output memory failed, alloc node:Conv2D-op0 alloc size:1048576B"),
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


LIMITED = """
import resource
import mindspore as ms, numpy as np, psutil
from mindspore import Tensor, nn
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.allocation import failed_allocation_as_user_error

ms.set_context(mode=ms.{mode})
network = nn.Conv2d(3, 64, 3)
small, large = (Tensor(np.ones((8, 3, size, size), np.float32)) for size in (32, 1024))
network(small)
limit = psutil.Process().memory_info().vms + 200_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with failed_allocation_as_user_error(Config()):
    network(large).asnumpy()
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["GRAPH_MODE", "PYNATIVE_MODE"])
def test_what_mindspore_says_is_recognised(mode):
    """A convolution that needs 2 GB, in a process that may take 0.2 GB more."""
    command = [sys.executable, "-c", LIMITED.format(mode=mode)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=variables(), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "UserError: memory: an allocation failed: lower train.per_batch_size 16" in last

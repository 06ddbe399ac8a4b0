"""Which graphs are compiled before the first step; `test_sizes.py` and `test_sat.py` train."""

from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.engine.compilation import compile_steps


class Recorded:
    """Stands for a train step; keeps what it is asked to compile."""

    def __init__(self):
        self.asked = []

    def compile(self, rate, batch, count):
        self.asked.append((batch[0].shape, count))


@pytest.mark.parametrize(
    ("parts", "expected", "line"),
    [
        ({32: 1}, [((4, 3, 32, 32), 2)], "2 graphs"),
        ({32: 1, 64: 2}, [((4, 3, 32, 32), 2), ((2, 3, 64, 64), 4)], "3 graphs"),
    ],
)
def test_a_graph_for_each_size_and_one_that_applies_the_sum(
    graph_mode, caplog, parts, expected, line
):
    caplog.set_level("INFO", logger="mindyolo_v4")
    step = Recorded()
    images = Tensor(np.zeros((4, 3, 32, 32), np.uint8))
    batches = [(images, Tensor(np.zeros((4, 2), np.int32)))] * 2
    step_batches = SimpleNamespace(accumulate=2, parts=parts)
    compile_steps(step, None, step_batches, batches, Heartbeat())
    assert step.asked == expected
    assert caplog.messages[0].startswith("compiling the training graph")
    assert caplog.messages[-1].endswith(line)


def test_nothing_is_counted_in_pynative_mode(pynative_mode, caplog):
    caplog.set_level("INFO", logger="mindyolo_v4")
    step = Recorded()
    images = Tensor(np.zeros((4, 3, 32, 32), np.uint8))
    step_batches = SimpleNamespace(accumulate=1, parts={32: 1})
    compile_steps(step, None, step_batches, [(images,)], Heartbeat())
    assert step.asked == [((4, 3, 32, 32), 1)]
    assert "graphs" not in caplog.text

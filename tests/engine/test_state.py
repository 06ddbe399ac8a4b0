"""What a training remembers: where it stands in its epochs, and what is best."""

import pytest

from mindyolo_v4.engine.state import TrainingState


@pytest.mark.parametrize(("step", "epoch", "ends"), [(1, 1, False), (4, 1, True), (5, 2, False)])
def test_epochs_count_from_1(step, epoch, ends):
    state = TrainingState(step=step, steps_per_epoch=4)
    assert (state.epoch, state.ends_epoch) == (epoch, ends)
    assert state.to_card()["epoch"] == epoch


@pytest.mark.parametrize(
    ("best", "value", "expected"),
    [
        (None, 0.0, True),
        (None, None, False),
        ({"AP": None}, 0.1, True),
        ({"AP": None}, None, False),
        ({"AP": 0.5}, None, False),
        ({"AP": 0.5}, 0.5, False),
        ({"AP": 0.5}, 0.6, True),
        ({"acc1": 80.0}, 0.1, True),
    ],
)
def test_an_undefined_metric_is_never_best(best, value, expected):
    assert TrainingState(best=best).improves("AP", {"AP": value}) is expected

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


def test_the_end_names_the_best_and_what_makes_it_wrong():
    best = {"AP": 0.25, "epoch": 1, "step": 4, "unreadable": 3}
    state = TrainingState(step=8, steps_per_epoch=4, train_seconds=90.0, nonfinite_steps=1)
    first = "training ended by train.epochs at step 8, epoch 2, after 1.5 minutes; "
    first += "steps that were not finite: 1"
    assert state.end_lines("AP", "epochs") == [first]
    state.best = best
    last = "best AP: 0.2500 (epoch 1, step 4); 3 images could not be read"
    assert state.end_lines("AP", "epochs") == [first, last]
    best["unreadable"] = 0
    assert state.end_lines("AP", "epochs")[1] == "best AP: 0.2500 (epoch 1, step 4)"


def test_the_record_of_an_end():
    state = TrainingState(step=8, steps_per_epoch=4, train_seconds=1.23456, nonfinite_steps=1)
    numbers = {"step": 8, "epoch": 2, "train_seconds": 1.235, "nonfinite_steps": 1}
    assert state.end("patience") == {"stopped_by": "patience"} | numbers

"""The plan of a training, and how many epochs a limited time allows."""

import pytest

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import ScheduleConfig, TrainConfig
from mindyolo_v4.engine.plan import fitted_epochs, make_plan
from mindyolo_v4.engine.state import TrainingState


def test_a_plan_of_fewer_epochs_than_configured():
    config = Config(schedule=ScheduleConfig(kind="constant"), train=TrainConfig(epochs=9))
    plan = make_plan(config, steps_per_epoch=5, epochs=2, world_size=1)
    assert (plan.epochs, plan.last_step, plan.ended_by) == (2, 10, "epochs")
    assert plan.rates.tolist() == [config.optimizer.lr] * 10
    assert plan.sat_rates.tolist() == [0.0] * 10


def test_max_steps_ends_a_plan_inside_its_schedule():
    config = Config(train=TrainConfig(epochs=2, max_steps=7))
    plan = make_plan(config, steps_per_epoch=5, epochs=2, world_size=1)
    assert (plan.last_step, plan.ended_by, len(plan.rates)) == (7, "max_steps", 10)


@pytest.mark.parametrize(
    ("minutes", "val_interval", "epochs"),
    [
        (10.0, 1, 23),  # 582 s - 30 s of the first epoch = 552 s, / (20 + 5) = 22.08
        (10.0, 5, 27),  # / (20 + 1) = 26.3
        (0.1, 1, 1),  # the time is over
        (1000.0, 1, 100),  # all that are configured
    ],
)
def test_fitted_epochs(minutes: float, val_interval: int, epochs: int) -> None:
    train = TrainConfig(epochs=100, max_minutes=minutes, val_interval=val_interval)
    state = TrainingState(step=5, steps_per_epoch=5, train_seconds=30.0)
    assert fitted_epochs(train, state, epoch_s=20.0, validation_s=5.0) == epochs

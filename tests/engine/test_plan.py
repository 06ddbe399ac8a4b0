"""The plan of a training, how many epochs a limited time allows, and the parts of micro-batches."""

import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import ScheduleConfig, TrainConfig
from mindyolo_v4.engine.plan import fitted_epochs, make_plan, parts_by_size
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.errors import UserError


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


def sized(per_batch_size: int, sizes: tuple[int, ...] | None, img_size: int = 416) -> Config:
    train = TrainConfig(per_batch_size=per_batch_size, random_sizes=sizes)
    return Config(data=DataConfig(img_size=img_size), train=train)


def test_parts_keep_images_times_area_below_that_of_the_batch():
    # 8 x 416^2 = 1,384,448; 8 x 480^2 = 1,843,200; 4 x 480^2 = 921,600; 4 x 608^2 = 1,478,656
    sizes = (320, 416, 480, 608)
    assert parts_by_size(sized(8, sizes)) == {320: 1, 416: 1, 480: 2, 608: 4}
    # 6 x 608^2 = 2.14 x 6 x 416^2: 3 parts of 2
    assert parts_by_size(sized(6, (608,))) == {608: 3}
    assert parts_by_size(sized(7, (416, 448))) == {416: 1, 448: 7}
    assert parts_by_size(sized(16, None)) == {416: 1}


def test_an_image_larger_than_the_batch_is_refused():
    with pytest.raises(UserError, match=r"train\.random_sizes: one image of 608 px .*at most 576"):
        parts_by_size(sized(2, (416, 608)))
    # 576^2 = 331,776 <= 2 x 416^2 = 346,112
    assert parts_by_size(sized(2, (576,))) == {576: 2}

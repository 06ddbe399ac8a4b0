"""Published learning rates (darknet, mindyolo, MindSpore model zoo, DeepSpark) and the joins."""

from dataclasses import replace

import numpy as np
import pytest

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import OptimizerConfig, ScheduleConfig, TrainConfig
from mindyolo_v4.engine.schedule import describe_batch, learning_rates, rate_factor, sat_rates
from mindyolo_v4.errors import UserError


def rates(lr: float, schedule: ScheduleConfig, steps_per_epoch: int, epochs: int = 1) -> np.ndarray:
    return learning_rates(OptimizerConfig(lr=lr), schedule, steps_per_epoch, epochs)


def check(values: np.ndarray, expected: dict[int, float], relative: float) -> None:
    for step, value in expected.items():
        assert values[step] == pytest.approx(value, rel=relative), step


def test_darknet_steps_with_burn_in():
    schedule = ScheduleConfig(
        kind="step",
        warmup="power",
        warmup_steps=1000,
        milestones=(400000, 450000),
        milestone_unit="step",
    )
    expected = {
        1: 1.3e-15,
        10: 1.3e-11,
        100: 1.3e-7,
        250: 5.078125e-6,
        500: 8.125e-5,
        750: 4.11328e-4,
        999: 0.00129480788,
        1000: 0.0013,
        399999: 0.0013,
        400000: 0.00013,
        449999: 0.00013,
        450000: 1.3e-5,
    }
    check(rates(0.0013, schedule, 500500), expected, 2e-6)


def test_darknet_sgdr_one_cycle():
    schedule = ScheduleConfig(
        kind="sgdr",
        warmup="power",
        warmup_steps=1000,
        cycle_steps=500500,
        final_factor=1e-5 / 0.0013,
        joined=False,
    )
    expected = {
        1000: 0.001299987,
        100000: 0.001177054,
        250250: 0.000655,
        400000: 0.000134138,
        500500: 1e-5,
    }
    check(rates(0.0013, schedule, 500501), expected, 5e-6)


def test_darknet_sgdr_doubling_cycles():
    schedule = ScheduleConfig(
        kind="sgdr", cycle_steps=1000, final_factor=1e-5 / 0.0013, joined=False
    )
    expected = {
        1000: 1e-5,
        1001: 0.0012999993,
        1500: 0.0011110839,
        2000: 0.000655,
        3000: 1e-5,
        3001: 0.0012999999,
        5000: 0.000655,
    }
    check(rates(0.0013, schedule, 10000), expected, 2e-7)


def test_darknet_poly():
    schedule = ScheduleConfig(kind="poly", warmup="power", warmup_steps=1000, joined=False)
    values = rates(0.1, schedule, 1_200_000)
    check(
        values, {500: 0.00625, 1000: 0.0996670872, 10000: 0.096708104, 600000: 0.00625}, 1e-7
    )  # darknet: float32


def test_mindyolo_keeps_its_jump():
    schedule = ScheduleConfig(kind="cosine", update="epoch", warmup_epochs=20, joined=False)
    values = rates(0.012, schedule, 924, 320)
    expected = {
        1: 6.494e-7,
        924: 0.0006,
        9240: 0.006,
        18479: 0.0119993506,
        18480: 0.0118847117,
        19404: 0.0118729365,
        160 * 924: 0.006,
        319 * 924: 2.891e-7,
    }
    check(values, expected, 2e-4)
    check(values, {18479: 0.0119993506, 18480: 0.0118847117, 19404: 0.0118729365}, 1e-8)


def test_model_zoo_classifier():
    schedule = ScheduleConfig(
        kind="cosine", update="epoch", warmup_epochs=5, warmup_offset=1, joined=False
    )
    values = rates(0.1, schedule, 2502, 150)
    check(values, {12509: 0.1, 12510: 0.09972609, 10 * 2502: 0.09890738, 75 * 2502: 0.05}, 1e-7)
    check(values, {0: 7.99e-6, 149 * 2502: 1.097e-5}, 1e-3)


def test_deepspark_steps_every_30_epochs():
    schedule = ScheduleConfig(kind="step", milestones=(30, 60, 90))
    values = rates(0.1, schedule, 7, 100)
    check(values, {0: 0.1, 30 * 7 - 1: 0.1, 30 * 7: 0.01, 60 * 7: 0.001, 90 * 7: 0.0001}, 1e-12)


@pytest.mark.parametrize("kind", ["cosine", "poly", "sgdr", "step", "constant"])
@pytest.mark.parametrize("warmup", ["linear", "power"])
def test_joined_warmup_meets_the_peak(kind, warmup):
    schedule = ScheduleConfig(kind=kind, warmup=warmup, warmup_steps=1000, milestones=(8.0,))
    values = rates(0.2, schedule, 1000, 10)
    assert values[0] == 0.0
    assert values[1000] == 0.2
    # No jump: around the join a step moves the rate by no more than the ramp's last step does.
    assert np.abs(np.diff(values[990:1010])).max() <= values[1000] - values[999] + 1e-12


def test_cosine_ends_at_the_final_factor():
    values = rates(1.0, ScheduleConfig(kind="cosine", final_factor=0.1, warmup_epochs=2), 100, 20)
    assert values[-1] == pytest.approx(0.1, abs=1e-5)
    assert values[200 + 900] == pytest.approx(
        0.55
    )  # half way between the warm-up's end and the last step


def test_warmup_takes_at_most_half():
    values = rates(1.0, ScheduleConfig(kind="constant", warmup_steps=1000), 5, 2)
    assert values.tolist() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_milestones_as_fractions():
    schedule = ScheduleConfig(kind="step", milestones=(0.8, 0.9), milestone_unit="fraction")
    assert rates(1.0, schedule, 10).tolist() == pytest.approx([1.0] * 8 + [0.1, 0.01])


def batches(scale_lr: bool, global_batch: int | None, accumulate: int = 1) -> Config:
    train = TrainConfig(per_batch_size=4, accumulate=accumulate, global_batch=global_batch)
    return Config(optimizer=OptimizerConfig(lr=0.1, scale_lr=scale_lr), train=train)


def test_linear_rule_for_another_global_batch():
    assert rate_factor(batches(True, 64), 8) == 0.5  # 8 x 4 of 64
    assert rate_factor(batches(True, 64, accumulate=2), 8) == 1.0
    assert rate_factor(batches(True, 16), 8) == 2.0
    assert rate_factor(batches(False, 64), 8) == 1.0
    with pytest.raises(UserError, match=r"optimizer\.scale_lr: needs train\.global_batch"):
        batches(True, None)


def test_what_is_said_of_the_global_batch():
    assert describe_batch(batches(False, 64), 16) == describe_batch(batches(False, None), 3) == ""
    scaled = describe_batch(batches(True, 64), 8)
    assert (
        scaled == "8 x 4 x 1 = 32 images per step: "
        "the peak learning rate is 0.1 x 32 / 64 = 0.05 (optimizer.scale_lr)"
    )
    hint = describe_batch(batches(False, 64), 8)
    assert hint.startswith(
        "hint: 8 x 4 x 1 = 32 images per step, but the recipe's learning rate 0.1 is for 64;"
    )
    assert "0.1 x 32 / 64 = 0.05" in hint


def sat_config(**train: float) -> Config:
    schedule = ScheduleConfig(warmup_steps=20)
    return Config(schedule=schedule, train=TrainConfig(epochs=100, sat_lr=2.0, **train))


def test_sat_rates_rise_with_the_training_after_the_warm_up():
    rates = sat_rates(sat_config(sat_prob=1.0), steps_per_epoch=10)
    assert rates.shape == (1000,)
    assert (rates[:20] == 0).all()
    assert rates[20] == pytest.approx(2.0 * 20 / 1000)
    assert rates[750] == pytest.approx(1.5)


def test_sat_steps_are_drawn_by_seed_and_step():
    half = sat_rates(sat_config(sat_prob=0.5), 10)
    chosen = half > 0
    assert 440 < chosen.sum() < 540  # of 980
    np.testing.assert_array_equal(half[chosen], sat_rates(sat_config(sat_prob=1.0), 10)[chosen])
    np.testing.assert_array_equal(half, sat_rates(sat_config(sat_prob=0.5), 10))
    # More epochs draw the same steps.
    longer = sat_rates(replace(sat_config(sat_prob=0.5), train=TrainConfig(200, sat_prob=0.5)), 10)
    np.testing.assert_array_equal(longer[:1000] > 0, chosen)
    other = sat_rates(replace(sat_config(sat_prob=0.5), seed=3), 10) > 0
    assert (other != chosen).sum() > 300
    assert (sat_rates(sat_config(), 10) == 0).all()

"""What the recorder makes of the values of steps: speeds, mean losses, the end of a divergence."""

import logging

import pytest
from mindspore import Tensor

from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine import recorder as recorder_module
from mindyolo_v4.engine.recorder import Recorder, TrainingDivergedError
from mindyolo_v4.engine.state import TrainingState


def test_the_speed_of_an_epoch_leaves_out_what_validates(caplog, monkeypatch):
    """Ten images per step of 2 s: 40 images in 8 s, and again 40 in 8 s after 100 s elsewhere."""
    caplog.set_level(logging.INFO, logger="mindyolo_v4")
    now = [0.0]
    monkeypatch.setattr(recorder_module.time, "monotonic", lambda: now[0])
    state = TrainingState(steps_per_epoch=4)
    recorder = Recorder(state, TrainConfig(log_interval=100), records=None, progress=None)
    recorder.start_epoch()
    for step in range(8):
        now[0] += 2.0
        state.step = step + 1
        recorder.put((Tensor([float(step)]), Tensor(step != 6)), 0.1, images=10)
        recorder.flush()
        if step % 4 == 3:
            recorder.end_epoch()
            now[0] += 100.0
            recorder.start_epoch()
    lines = [line for line in caplog.messages if line.startswith("Epoch")]
    assert lines == [
        "Epoch: [1] Avg img/s: 5.000 Loss: 1.5000",
        "Epoch: [2] Avg img/s: 5.000 Loss: 5.3333",
    ]


def test_a_pause_is_no_part_of_any_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(recorder_module.time, "monotonic", lambda: now[0])
    state = TrainingState(step=1, steps_per_epoch=4)
    recorder = Recorder(state, TrainConfig(log_interval=100), records=None, progress=None)
    recorder.start_epoch()
    with recorder.paused():
        now[0] += 50.0
    now[0] += 2.0
    recorder.put((Tensor([1.0]), Tensor(True)), 0.1, images=10)
    assert recorder.pending[-1] == pytest.approx(5.0)
    assert recorder.epoch_since_s == 50.0


def test_finite_steps_between_others_start_the_count_again():
    state = TrainingState(steps_per_epoch=9)
    settings = TrainConfig(log_interval=100, max_nonfinite=2)
    recorder = Recorder(state, settings, records=None, progress=None)
    for finite in (False, True, False):
        state.step += 1
        recorder.put((Tensor([1.0]), Tensor(finite)), 0.1, images=1)
        recorder.flush()
    assert (state.nonfinite_steps, state.nonfinite_in_a_row) == (2, 1)
    state.step += 1
    recorder.put((Tensor([1.0]), Tensor(False)), 0.1, images=1)
    with pytest.raises(TrainingDivergedError, match="2 steps in a row"):
        recorder.flush()

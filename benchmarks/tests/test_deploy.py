"""The figures of deployment on made-up measurements; what is compared between back-ends."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import deploy_speed, export_equality
from benchmarks.common.backend_differences import differences
from mindyolo_v4.config.model import ModelConfig

SMALL = ("--width", "0.1", "--depth", "0.1", "--img_size", "64")


@pytest.fixture
def words_of_processes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let all processes succeed without starting one; return their words."""
    started: list[list[str]] = []

    def run(command: list[object], **_: object) -> SimpleNamespace:
        started.append([str(word) for word in command])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(deploy_speed.subprocess, "run", run)
    monkeypatch.setattr(deploy_speed, "write_checkpoint", lambda *_: None)
    monkeypatch.setattr(export_equality, "write_checkpoint", lambda *_: None)
    return started


def test_speed_of_deployment(
    words_of_processes: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain_s = {"openvino": 1.0, "onnxruntime": 2.0, "opencv": 3.0}
    ours = {
        "step_s": 1.05,
        "second_s": 1.2,
        "backend": "openvino",
        "objects": 3,
        "lowest_score": 0.3,
    }
    clock = iter([0.0, 10.0, 10.0, 22.0])  # the short run takes 10 s, the long one 12 s
    monkeypatch.setattr(deploy_speed, "run_json", lambda words: {"step_s": plain_s[words[3]]})
    monkeypatch.setattr(deploy_speed, "run_module", lambda *_, **__: ours)
    stop_watch = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr(deploy_speed, "time", stop_watch)
    options = ("--pairs", "1", "--images", "1", "--no_torch")
    monkeypatch.setattr(sys, "argv", ["deploy_speed", *SMALL, *options])
    assert deploy_speed.main() == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "figure=" in line]
    assert lines == [
        "figure=deploy_network_64 ours=1.05 peer=1 ratio=1.05 bound=1.1",
        "figure=deploy_second_call_64 ours=1.2 peer=1.117 ratio=1.074 bound=1",
        "figure=deploy_predict_64 ours=1 peer=1.05 ratio=0.9524 bound=1.3",
    ]
    assert [words[1] for words in words_of_processes] == ["export.py", "predict.py", "predict.py"]
    assert words_of_processes[-1][-4:] == ["--conf_thres", "0.3", "--max_det", "20"]


@pytest.mark.parametrize(("scores", "status"), [(9e-5, 0), (2e-4, 1)])
def test_equality_of_exports(
    scores: float, status: int, words_of_processes: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"maps": 1e-5, "boxes_px": 0.04, "scores": scores}
    measured = {"openvino": found, "process_s": 1.0}
    monkeypatch.setattr(export_equality, "run_module", lambda *_, **__: dict(measured))
    words = ("--networks", "yolov4-tiny", "--formats", "onnx", "mindir")
    monkeypatch.setattr(sys, "argv", ["export_equality", *SMALL, *words])
    assert export_equality.main() == status
    assert [words[-1] for words in words_of_processes] == ["onnx", "mindir"]


def test_differences_of_maps_boxes_and_scores() -> None:
    anchors = ModelConfig("yolov4-tiny").anchor_set
    images = np.zeros((1, 3, 64, 64), np.uint8)
    expected = [
        np.zeros((1, 18, 64 // level.stride, 64 // level.stride)) for level in anchors.levels
    ]
    for one in expected:
        one[0, 0, 0, 0] = -4.0
    found = [one.copy() for one in expected]
    found[0][0, 4, 1, 2] = 0.1  # objectness: 0.5 becomes 1 / (1 + exp(-0.1)) = 0.5250
    result = differences(found, expected, anchors, images)
    assert result == {
        "maps": pytest.approx(0.1 / 4),
        "boxes_px": 0.0,
        "scores": pytest.approx(0.5 * 0.02497918747),
    }

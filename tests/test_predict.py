"""predict_images, and what the entry point predict.py does with videos and options."""

import io
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from mindspore import nn

from mindyolo_v4.commands import predict as predict_command
from mindyolo_v4.deploy import mindspore_backend, sources
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.forward import inference
from mindyolo_v4.predict import predict_images
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.signals import StopSignals
from mindyolo_v4.tools import check_data
from tests.inputs.commands import checkpoint, picture
from tests.support.bright_boxes import BrightBoxes
from tests.support.exported import export
from tests.support.videos import served_stream, write_video
from tests.weights.narrow import CLASSIFIER, write_own

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture(scope="module")
def weight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weight") / "net.ckpt")


@pytest.fixture
def compiled_once(monkeypatch):
    """Give all predictions of a test the first one's graph: the weights are the same file's."""
    graphs: list[nn.Cell] = []

    def shared(config, network):
        if not graphs:
            graphs.append(inference(config, network))
        return graphs[0]

    monkeypatch.setattr(mindspore_backend, "inference", shared)


def test_one_image_alone_is_a_list_of_one(weight, tmp_path, compiled_once):
    path = picture(tmp_path / "a.png")
    expected = predict_images(weight, [path])
    assert expected[0]["file"] == str(path)
    assert predict_images(weight, path) == predict_images(weight, str(path)) == expected
    (by_array,) = predict_images(weight, RGB)
    assert (by_array["file"], by_array["width"], by_array["height"]) == ("", 7, 5)
    assert len(predict_images(weight, np.stack([RGB, RGB]))) == 2
    assert predict_images(weight, []) == []


def test_a_wrong_image_is_named_by_its_number(weight):
    with pytest.raises(UserError, match=r"images\[1\]: is not an image"):
        predict_images(weight, [RGB, np.zeros((5, 5, 2))])


def test_predict_images_sees_tiles_and_mirrored_views(weight, monkeypatch):
    def bright_boxes(config, _):
        return BrightBoxes(config.model.anchor_set, classes=2)

    monkeypatch.setattr(mindspore_backend, "inference", bright_boxes)
    image = np.full((64, 640, 3), 60, np.uint8)
    for left in range(10, 600, 60):  # ten rectangles, too small in the whole image
        image[20:24, left : left + 4] = 250
    counts = [
        len(predict_images(weight, image, **options)[0]["detections"])
        for options in ({}, {"tile": 64}, {"tile": 64, "overlap": 0.5, "tta": True})
    ]
    assert counts[0] < 10 and counts[1:] == [10, 10]


@pytest.mark.slow
def test_two_threads_find_what_one_finds(weight):
    expected = predict_images(weight, [RGB], conf_thres=0.001)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(predict_images(weight, [RGB], 0.001)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected, expected]


# ------------------ the command


@pytest.fixture(scope="module")
def exported(weight: Path) -> Path:
    return export(weight, weight.with_suffix(".onnx"))


def run(*words: object) -> int:
    return run_command(predict_command.main, [str(word) for word in words])


def test_a_video_gives_a_video_and_lines(exported: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", frames=9, fps=12)
    options = "--stride", 2, "--conf_thres", 0, "--max_det", 3, "--save_txt"
    out = tmp_path / "out"
    assert run("--weight", exported, "--source", video, "--save_dir", out, *options) == 0
    rows = [json.loads(line) for line in (out / "v.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row["time"] for row in rows] == [0.0, 0.167, 0.333, 0.5, 0.667]
    assert [len(row["detections"]) for row in rows] == [3] * 5
    capture = cv2.VideoCapture(str(out / "v.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(6)
    labels = sorted(path.name for path in (out / "labels").iterdir())
    assert labels == [f"v_{number:06d}.txt" for number in (0, 2, 4, 6, 8)]
    log = (out / "predict.log").read_text()
    assert "back-end openvino" in log
    assert "5 frames, 15 detections" in log


def test_the_video_of_a_classifier_has_no_detections(tmp_path: Path) -> None:
    weight = write_own(tmp_path / "net.ckpt", CLASSIFIER)
    exported = export(weight, tmp_path / "net.onnx")
    video = write_video(tmp_path / "v.mp4", frames=3, fps=12)
    out = tmp_path / "out"
    assert run("--weight", exported, "--source", video, "--save_dir", out) == 0
    rows = [json.loads(line) for line in (out / "v.jsonl").read_text().splitlines()]
    assert [len(row["top5"]) for row in rows] == [3, 3, 3]  # it knows three classes
    log = (out / "predict.log").read_text()
    assert "3 frames, " in log and "detections" not in log


@contextmanager
def written_video(folder: Path) -> Iterator[str]:
    yield str(write_video(folder / "stream.avi", frames=30, fps=10))


@pytest.mark.parametrize(
    ("number", "source"),
    [
        (signal.SIGINT, written_video),
        (signal.SIGTERM, written_video),
        (signal.SIGINT, lambda _: served_stream(frames=5, stalls=True)),
    ],
    ids=["SIGINT", "SIGTERM", "stalled stream"],
)
def test_a_signal_leaves_both_files_of_a_video_whole(
    exported: Path,
    tmp_path: Path,
    number: signal.Signals,
    source: Callable[[Path], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signals = StopSignals()
    calls = []

    def predict_slowly(self: Predictor, images: object, size: int = 1) -> object:
        calls.append(1)
        if len(calls) == 5:
            signals.note(number)
        return original(self, images, size)

    original = Predictor.detect
    monkeypatch.setattr(Predictor, "detect", predict_slowly)
    monkeypatch.setattr(sources, "_PATIENCE_MS", 1000)
    with source(tmp_path) as address:
        words = "--weight", exported, "--source", address, "--save_dir", tmp_path / "out"
        main = partial(predict_command.main, signals=signals)
        assert run_command(main, [str(word) for word in words]) == 128 + number
    rows = (tmp_path / "out/stream.jsonl").read_text().splitlines()
    capture = cv2.VideoCapture(str(tmp_path / "out/stream.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(rows) == 5
    assert f"stopped by {number.name} after 5 frames" in (tmp_path / "out/predict.log").read_text()
    assert not list((tmp_path / "out").glob(".*"))


def test_a_stream_that_stalls_is_left(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PATIENCE_MS", 700)
    out = tmp_path / "out"
    with served_stream(frames=3, stalls=True) as address:
        assert run("--weight", exported, "--source", address, "--save_dir", out) == 0
    log = (out / "predict.log").read_text()
    assert "3 frames" in log and f"{address} gave no frame for 1 s, and was left" in log
    assert len((out / "stream.jsonl").read_text().splitlines()) == 3


def test_pseudo_labels_are_a_data_set(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        picture(tmp_path / f"set/images/train/deep/{number}.png")
    source = tmp_path / "set/images/train"
    options = "--recursive", "--save_txt", "--no_draw", "--conf_thres", 0, "--classes", "dog"
    out = tmp_path / "out"
    assert run("--weight", exported, "--source", source, "--save_dir", out, *options) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "classes.txt",
        "labels",
        "predict.log",
        "predictions.json",
    ]
    listed = json.loads((out / "predictions.json").read_text())
    names = {found["class_name"] for entry in listed for found in entry["detections"]}
    assert names == {"dog"}
    boxes = sum(path.read_text().count("\n") for path in (out / "labels/deep").iterdir())
    (tmp_path / "set/labels").mkdir()
    (out / "labels").rename(tmp_path / "set/labels/train")
    (out / "classes.txt").rename(tmp_path / "set/classes.txt")
    data = "--data.format", "yolo", "--data.train", "images/train", "--data.val", "null"
    words = ("--data_dir", tmp_path / "set", *data, "--data.names", "classes.txt")
    assert run_command(check_data.main, [str(word) for word in words]) == 0
    assert f" {boxes} " in capsys.readouterr().out


def test_the_lists_of_paths(exported: Path, tmp_path: Path, monkeypatch) -> None:
    first = picture(tmp_path / "a.png")
    second = picture(tmp_path / "b.png")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{first}\n{tmp_path}/none.png\n{second}\n"))
    out = tmp_path / "out"
    assert run("--weight", exported, "--source", "-", "--save_dir", out) == 0
    listed = json.loads((out / "predictions.json").read_text())
    assert [entry["file"] for entry in listed] == [str(first), str(second)]
    assert sorted(path.name for path in out.glob("*.jpg")) == ["a.jpg", "b.jpg"]
    assert "none.png: is missing" in (out / "predict.log").read_text()


def test_two_images_of_one_label_file_leave_no_folder(exported: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        picture(tmp_path / "in" / name)
    words = ("--weight", exported, "--source", tmp_path / "in", "--save_txt")
    assert run(*words, "--save_dir", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()

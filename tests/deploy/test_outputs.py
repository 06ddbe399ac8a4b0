"""What predict.py writes of a prediction: labels, crops, names, video."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.data.readers.yolo import label_candidates
from mindyolo_v4.deploy.outputs import (
    Outputs,
    VideoOutput,
    file_name,
    label_names,
    label_rows,
    output_names,
)
from mindyolo_v4.deploy.prediction import Prediction
from mindyolo_v4.deploy.sources import Frame, ImageFiles, VideoSource, find_source
from mindyolo_v4.errors import UserError
from tests.inputs.commands import picture

IMAGE = np.full((50, 100, 3), 60, np.uint8)
IMAGE[10:30, 20:60] = (250, 0, 0)
FOUND = Prediction(
    "a.jpg",
    IMAGE,
    np.array([[20.0, 10.0, 60.0, 30.0], [0.0, 0.0, 100.0, 50.0]], np.float32),
    np.array([0.9, 0.5], np.float32),
    np.array([1, 0]),
    ("red/blood cell", "cat"),
)


def test_labels_are_shares_of_the_image() -> None:
    assert label_rows(FOUND) == (
        "1 0.400000 0.400000 0.400000 0.400000\n0 0.500000 0.500000 1.000000 1.000000\n"
    )
    assert label_rows(FOUND.of_scores(1.0)) == ""
    sliver = np.array([[99.99999, 0.0, 100.0, 50.0], [0.0, 0.0, 100.0, 50.0]], np.float32)
    assert label_rows(replace(FOUND, boxes_xyxy_px=sliver)) == (
        "0 0.500000 0.500000 1.000000 1.000000\n"
    )


def test_the_files_of_an_image(tmp_path: Path) -> None:
    Outputs(tmp_path, draw=True, save_txt=True, save_crop=True).write(FOUND, "a")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert names == ["a.jpg", "crops/cat/a_2.jpg", "crops/red_blood cell/a_1.jpg", "labels/a.txt"]
    crop = cv2.imread(str(tmp_path / "crops/red_blood cell/a_1.jpg"))
    assert crop.shape == (20, 40, 3)
    np.testing.assert_allclose(crop.mean(axis=(0, 1)), [0, 0, 250], atol=6)
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (50, 100, 3)


def test_nothing_is_written_of_a_classifier_or_without_options(tmp_path: Path) -> None:
    classes = Prediction("", IMAGE, None, np.array([0.9]), np.array([0]), ("cat",))
    Outputs(tmp_path, save_txt=True, save_crop=True).write(classes, "a")
    Outputs(tmp_path, draw=False).write(FOUND, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_video_and_its_lines_are_whole(tmp_path: Path) -> None:
    with VideoOutput(tmp_path, "v", 12.5, draw=True) as output:
        for number in range(5):
            output.write(Frame(2 * number, number / 10, IMAGE), FOUND)
        assert not (tmp_path / "v.mp4").exists()
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 2, 4, 6, 8]
    assert rows[1]["time"] == 0.1
    assert rows[0]["detections"] == FOUND.to_dict()["detections"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.jsonl", "v.mp4"]


@pytest.mark.parametrize("fps", [64.9999, 75.123, 1000 / 7, 239.843, 999.99])
def test_every_frame_rate_can_be_written(tmp_path: Path, fps: float) -> None:
    with VideoOutput(tmp_path, "v", fps, draw=True) as output:
        output.write(Frame(0, 0.0, IMAGE), FOUND)
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)


def test_lines_stay_where_the_video_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = VideoOutput(tmp_path, "v", 10, draw=True)
    with pytest.raises(UserError, match=r"v\.mp4: could not be written: 1 of 2 frames"), output:
        for number in range(2):
            output.write(Frame(number, number / 10, IMAGE), FOUND)
        monkeypatch.setattr(cv2.VideoCapture, "get", lambda *_: 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["v.jsonl"]
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 2


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), VideoOutput(tmp_path, "v", 10, draw=True) as output:
        output.write(Frame(0, 0.0, IMAGE), FOUND)
        raise KeyError("a fault of the network")
    assert list(tmp_path.iterdir()) == []


def test_a_video_needs_a_name_that_opencv_takes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    with pytest.raises(UserError, match="its name is not UTF-8"):
        VideoOutput(folder, "v", 10, draw=True)
    with VideoOutput(folder, "v", 10, draw=False) as output:
        output.write(Frame(0, 0.0, IMAGE), FOUND)
    assert [path.name for path in folder.iterdir()] == ["v.jsonl"]


def test_what_is_drawn_never_replaces_the_source(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    files = [str(tmp_path / "link/a.jpg"), str(tmp_path / "b.png")]
    video = VideoSource(str(tmp_path / "v.mp4"), "v", False)
    for source, replaced in ((ImageFiles(files), "a.jpg"), (video, "v.mp4")):
        with pytest.raises(UserError, match=f"would replace .*{replaced} of --source"):
            Outputs(tmp_path).check(source)
        Outputs(tmp_path, draw=False).check(source)
        Outputs(tmp_path / "out").check(source)
    Outputs(tmp_path).check(ImageFiles(files[1:]))
    Outputs(tmp_path).check(VideoSource(str(tmp_path / "v.avi"), "v", False))


def test_crops_never_replace_the_source(tmp_path: Path) -> None:
    source = ImageFiles([str(tmp_path / "crops/cat/a_1.jpg")])
    with pytest.raises(UserError, match=r"crops could replace .*a_1.jpg of --source"):
        Outputs(tmp_path, save_crop=True).check(source)


@pytest.mark.parametrize("name", ["labels/train/a.txt", "classes.txt"])
def test_labels_of_the_user_are_not_replaced(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "labels").mkdir(parents=True)
    inside = ImageFiles([str(folder / "images/a.jpg")])
    outside = ImageFiles(["a.jpg"])
    outputs = Outputs(folder, save_txt=True)
    outputs.check(inside)  # there are none yet

    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("0 0.5 0.5 0.1 0.1\n")
    for source in (inside, outside):
        with pytest.raises(UserError, match=f"{name}: --save_txt could replace it"):
            outputs.check(source)
    Outputs(folder).check(inside)

    (folder / "predict.log").write_text("")  # of an earlier prediction, perhaps without --save_txt
    outputs.check(outside)
    with pytest.raises(UserError, match="--save_txt could replace it"):
        outputs.check(inside)


def test_labels_lie_as_the_images_lie(tmp_path: Path) -> None:
    images = [picture(tmp_path / f"images/{name}") for name in ("train/0.png", "val/0.png")]
    source = find_source(str(tmp_path / "images"), recursive=True)
    assert isinstance(source, ImageFiles)
    assert label_names(source) == ["train/0", "val/0"]
    for image, name in zip(images, label_names(source), strict=True):
        assert label_candidates(image, tmp_path)[0] == tmp_path / f"labels/{name}.txt"
    deep = find_source(str(tmp_path), recursive=True)
    assert isinstance(deep, ImageFiles)
    assert label_names(deep) == ["images/train/0", "images/val/0"]

    listed = [str(image) for image in images]
    assert label_names(ImageFiles(listed)) == ["train/0", "val/0"]
    assert label_names(ImageFiles([listed[0], f"{tmp_path}/images/val/../train/1.png"])) == [
        "0",
        "1",
    ]
    one_folder = ImageFiles(["x/a.jpg", "x/b.jpg", "x/a.png"])
    with pytest.raises(UserError, match=r"x/a.jpg and x/a.png would have one label file"):
        label_names(one_folder)


def test_results_of_equal_stems_are_numbered() -> None:
    files = ["x/a.jpg", "y/a.png", "a_2.jpg", "a.bmp"]
    assert list(output_names(files)) == ["a", "a_2", "a_2_2", "a_3"]


def test_very_long_names_leave_room_for_what_is_added(tmp_path: Path) -> None:
    files = ["s" * 251 + ".png", "s" * 251 + ".jpg", "é" * 125 + ".png"]
    names = list(output_names(files))
    assert names == ["s" * 200, "s" * 200 + "_2", "é" * 100]
    outputs = Outputs(tmp_path, save_txt=True, save_crop=True)
    long = replace(FOUND, class_names=("c" * 300,) * len(FOUND.class_names))
    for name in names:
        outputs.write(long, name)
    assert len(list(tmp_path.rglob("*.txt"))) == len(names)
    crops = [path.parent.name for path in tmp_path.rglob("crops/*/*.jpg")]
    assert crops == ["c" * 200] * len(names) * len(FOUND.class_names)


@pytest.mark.parametrize(
    ("name", "expected"), [("a/b", "a_b"), ("..", "class"), ("", "class"), ("Zelle µ", "Zelle µ")]
)
def test_class_names_as_folders(name: str, expected: str) -> None:
    assert file_name(name) == expected

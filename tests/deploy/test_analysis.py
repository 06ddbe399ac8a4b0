"""The pictures and tables that a test writes."""

import logging

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.deploy import analysis
from mindyolo_v4.evaluation import coco_metrics
from tests.support.scored import dataset, detections, evaluator_of, random_split, record

TABLES = {
    "per_class.csv",
    "confusion_matrix.csv",
    "tide.csv",
    "worst_images.csv",
    "suspicious_labels.csv",
}
CURVES = {"precision_recall.png", "f1_confidence.png", "confusion_matrix.png", "tide.png"}


def write(evaluator, folder):
    evaluation = evaluator.evaluate()
    metrics = evaluator.metrics(evaluation)
    analysis.write_analysis(evaluator, evaluation, metrics, DataConfig(), folder)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_every_file_is_written(tmp_path, rng, caplog):
    pytest.importorskip("hotcoco")
    caplog.set_level(logging.INFO)
    write(evaluator_of(*random_split(rng)), tmp_path)
    drawn = {f"worst_{rank:02d}.jpg" for rank in range(1, 11)}
    found = names(tmp_path)
    assert found >= TABLES | CURVES | drawn
    assert {name for name in found - TABLES - CURVES - drawn if "suspicious" not in name} == set()
    assert "best confidence threshold, mean of the classes: F1 0." in caplog.text
    # The images do not exist: grey ones are drawn, ground truth beside prediction.
    worst = cv2.imread(str(tmp_path / "worst_01.jpg"))
    assert worst.shape[1] > 2 * worst.shape[0]


def test_pictures_of_an_earlier_test_go(tmp_path):
    pytest.importorskip("hotcoco")
    for name in ("worst_01.jpg", "worst_10.jpg", "suspicious_01.jpg", "worst_of_all.jpg"):
        (tmp_path / name).write_bytes(b"old")
    split = dataset(record(1, [[0, 0, 50, 50]], [0]))
    write(evaluator_of(split, [detections([0, 0, 50, 50, 0.9, 0])]), tmp_path)
    assert names(tmp_path) == TABLES | CURVES | {"worst_of_all.jpg"}


def test_without_hotcoco_a_message_says_what_is_missing(tmp_path, monkeypatch, caplog, rng):
    for module in (analysis, coco_metrics):
        monkeypatch.setattr(module, "hotcoco_version", lambda: None)
    write(evaluator_of(*random_split(rng)), tmp_path)
    assert names(tmp_path) == {"precision_recall.png", "per_class.csv"}
    (line,) = [one.message for one in caplog.records if "hotcoco is not" in one.message]
    assert "pip install 'mindyolo_v4[analysis]'" in line


def test_no_ground_truth_no_files(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    split = dataset(record(1, [[0, 0, 50, 50]], [0], ignore=[True]))
    write(evaluator_of(split, [detections([0, 0, 50, 50, 0.9, 0])]), tmp_path)
    assert names(tmp_path) == set()
    assert "no analysis of errors: no ground truth" in caplog.text


def test_nothing_is_detected(tmp_path):
    pytest.importorskip("hotcoco")
    split = dataset(record(1, [[0, 0, 50, 50]], [0]), record(2))
    write(evaluator_of(split, [detections(), detections()]), tmp_path)
    every = (tmp_path / "per_class.csv").read_text().splitlines()[-1]
    assert every == ",all,1,0,0,0,0,0,0.25"
    table = np.loadtxt(tmp_path / "confusion_matrix.csv", str, delimiter=",")
    assert table[1].tolist() == ["cat", "0", "0", "1"]
    assert "worst_01.jpg" in names(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "is_written"),
    [({}, False), ({"single_cls": True}, True), ({"classes": ("a",)}, True)],
)
def test_ids_that_are_not_of_the_annotation_file_come_with_their_ground_truth(
    rng, chosen, is_written
):
    data = DataConfig(format="coco", **chosen)
    scores = analysis.detection_scores(evaluator_of(*random_split(rng)), data)
    assert ("ground_truth.json" in scores.files) is is_written

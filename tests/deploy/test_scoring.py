"""Scoring with a back-end, here one that only looks at the brightness."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.deploy.backends import Maps
from mindyolo_v4.deploy.scoring import score_backend

NAMES = tuple(f"class{number}" for number in range(6))


class Brightness:
    """Takes an image of brightness 40 n for one of class n, and the classes near n for the next."""

    name = "brightness"
    path = Path("brightness.onnx")
    card = Card("classify", ModelConfig("cspdarknet53"), NAMES)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: NDArray[np.uint8]) -> Maps:
        self.batches.append(len(images))
        level = images.mean((1, 2, 3)) / 40
        return (-np.abs(level[:, None] - np.arange(len(NAMES))).astype(np.float32),)


def test_a_classifier(tmp_path: Path) -> None:
    levels = (0, 40, 80, 200)
    for number, level in enumerate(levels):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 32, 3), level, np.uint8))
    files = np.array([b"0.png", b"1.png", b"2.png", b"3.png", b"none.png"])
    # Right, right, second best, the sixth best of six; grey (80) of one that is absent: right.
    class_ids = np.array([0, 1, 1, 0, 2], np.int32)
    dataset = ClassImages(tmp_path, files, class_ids, NAMES, "made up")
    data = DataConfig(format="imagenet", img_size=32, pad_value=80)
    config = Config(
        model=Brightness.card.model, data=data, evaluate=EvaluateConfig(per_batch_size=2)
    )
    backend = Brightness()
    checks: list[int] = []
    scores = score_backend(backend, config, dataset, lambda: checks.append(1))
    metrics = scores.metrics
    assert (metrics["acc1"], metrics["acc5"], metrics["images"]) == (60.0, 80.0, 5)
    assert metrics["unreadable"] == 1
    assert metrics["network_ms"] > 0 and metrics["read_ms"] >= 0 and metrics["nms_ms"] > 0
    assert backend.batches == [2, 2, 2]  # the last one is filled up with grey
    assert checks

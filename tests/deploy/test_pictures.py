"""Which images of a validation are drawn, and into which files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.deploy.pictures import draw_validation, shown_images
from mindyolo_v4.evaluation.detections import Detections


@pytest.mark.parametrize(
    ("images", "pictures", "expected"),
    [
        (100, 1, [0, 25, 50, 75]),
        (10, 2, [0, 1, 2, 3, 5, 6, 7, 8]),
        (3, 5, [0, 1, 2]),
        (5, 0, []),
        (0, 3, []),
    ],
)
def test_images_are_spread_over_the_split(images: int, pictures: int, expected: list[int]) -> None:
    assert shown_images(images, pictures).tolist() == expected


def test_four_images_share_a_file_and_an_unreadable_one_is_grey(tmp_path: Path) -> None:
    records = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        if number != 1:
            cv2.imwrite(str(path), np.full((32, 64, 3), 200, np.uint8))
        empty = np.zeros(0, bool)
        no_boxes = np.zeros((0, 4), np.float32)
        classes = np.zeros(0, np.int64)
        sizes = np.zeros(0)
        records.append(
            ImageRecord(path, 64, 32, no_boxes, classes, empty, empty, sizes, number, "")
        )
    dataset = Dataset(Records(records), ("cat",), (1,), "made up", ())
    found = {number: Detections.none() for number in range(5)}
    draw_validation(dataset, found, DataConfig(pad_value=60), tmp_path)

    first = cv2.imread(str(tmp_path / "val_1.jpg"))
    second = cv2.imread(str(tmp_path / "val_2.jpg"))
    strip_and_image = 22 + 320
    assert first.shape == (4 * strip_and_image + 3 * 4, 640 + 4 + 640, 3)
    assert second.shape == (strip_and_image, 640 + 4 + 640, 3)
    levels = [
        int(first[row * (strip_and_image + 4) + 100, column].mean())
        for row in range(4)
        for column in (100, 900)
    ]
    assert np.allclose(levels, [200, 200, 60, 60, 200, 200, 200, 200], atol=3)
    assert not (tmp_path / "val_3.jpg").exists()

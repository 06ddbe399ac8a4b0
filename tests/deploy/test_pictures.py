"""Which images of a validation are drawn, and into which files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.deploy.pictures import draw_class_validation, draw_validation, shown_images
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


def test_a_classifier_has_pictures_too(tmp_path: Path) -> None:
    """The devices bring the outputs in any order; image 5 of 6 is missing."""
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names[:5]):
        cv2.imwrite(str(tmp_path / name), np.full((32, 64, 3), 40 * number, np.uint8))
    class_ids = np.zeros(6, np.int32)
    files = np.array(names, np.bytes_)
    dataset = ClassImages(tmp_path, files, class_ids, ("cat", "dog"), "made up")
    outputs = np.array([[5, 1, 0], [1, 0, 1], [4, 0, 2], [3, 1, 1], [2, 1, 2]], np.float32)
    draw_class_validation(dataset, outputs, DataConfig(img_size=64, pad_value=90), tmp_path)

    first = cv2.imread(str(tmp_path / "val_1.jpg"))
    second = cv2.imread(str(tmp_path / "val_2.jpg"))
    row = 22 + 160 + 4
    assert first.shape == (4 * row - 4, 320 + 4 + 320, 3)
    assert second.shape == (22 + 320, 320 + 4 + 320, 3)  # grey, in the size of the input
    levels = [
        first[number * row + 150, column].mean() for number in range(4) for column in (60, 500)
    ]
    assert np.allclose(levels, [40, 40, 80, 80, 120, 120, 160, 160], atol=3)
    assert np.allclose(second[300, [60, 500]], 90, atol=3)

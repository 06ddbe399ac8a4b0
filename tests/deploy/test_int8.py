"""Calibration images; `tests/test_export.py` quantises."""

from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.deploy.int8 import evenly, input_of
from mindyolo_v4.errors import UserError
from tests.inputs.commands import picture

DATA = DataConfig(img_size=64, img_height=32)


def record(path: Path) -> ImageRecord:
    boxes = np.zeros((0, 4), np.float32)
    ids = np.zeros(0, np.int64)
    flags = np.zeros(0, np.bool_)
    return ImageRecord(path, 40, 24, boxes, ids, flags, flags, np.zeros(0), 1, "")


def test_images_are_fitted_to_the_input(tmp_path: Path) -> None:
    image = input_of(record(picture(tmp_path / "a.png")), DATA)
    assert image.shape == (1, 3, 32, 64) and image.dtype == np.uint8


def test_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png: cannot be read"):
        input_of(record(tmp_path / "none.png"), DATA)


def test_records_are_spread_evenly() -> None:
    numbers = list(range(10))
    assert evenly(numbers, 4) == [0, 3, 6, 9]  # type: ignore[arg-type, comparison-overlap]
    assert evenly(numbers, 100) == numbers  # type: ignore[arg-type, comparison-overlap]

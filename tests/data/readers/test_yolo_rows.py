"""Rows of more than a box: poses, and polygons near the centre of the image."""

from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.data.readers.faults import Faults
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from tests.data.readers.test_yolo import tree

POSE = "1 0.5 0.5 0.4 0.5 0.4 0.4 {0}0.6 0.4 {0}0.5 0.6 {0}0 0 {1}\n"


@pytest.mark.parametrize("visibility", [("", ""), ("2 ", "0")])
@pytest.mark.parametrize("is_stated", [True, False])
def test_the_box_of_a_pose_is_its_first_four_numbers(
    tmp_path: Path, visibility: tuple[str, str], is_stated: bool
) -> None:
    data = tree(tmp_path, POSE.format(*visibility) + "0 0.5 0.5 0.5 0.5\n")
    if is_stated:
        numbers = 3 if visibility[0] else 2
        (tmp_path / "data.yaml").write_text(f"kpt_shape: [4, {numbers}]\n")
    dataset = read_split(data, "train")
    expected = [[12, 5, 28, 15], [10, 5, 30, 15]]
    np.testing.assert_allclose(dataset.records[0].boxes_xyxy_px, expected, atol=1e-5)
    assert any("key points" in warning for warning in dataset.warnings) != is_stated


NONE_OF_TWO = "0 0.5 0.5 0.4 0.5 0 0 {0}0 0 {0}\n"
ONE_OF_TWO = "0 0.5 0.5 0.4 0.5 0.4 0.4 {1}0 0 {0}\n"


@pytest.mark.parametrize(
    ("rows", "is_pose"),
    [
        (NONE_OF_TWO.format("", "") * 3 + ONE_OF_TWO.format("", ""), True),
        (NONE_OF_TWO.format("0 ", "2 ") * 3 + ONE_OF_TWO.format("0 ", "2 "), True),
        (NONE_OF_TWO.format("", ""), True),
        ("0 0.5 0.5 0.4 0.5 -1 -1 -1 -1\n", True),
        ("0 0.5 0.5 0.4 0.5 0.9 0.9 0 0.4 0.4 1\n", True),  # the first is not visible
        ("0 0.5 0.5 0.4 0.5 0.9 0.9 1 0.4 0.4 1\n", False),  # the first lies outside of the box
        ("0 0.5 0.5 0.4 0.5 0 0\n", False),  # a triangle
        ("0 0.5 0.5 0.4 0.5 0.9 0.9 0.9 0.1\n", False),
    ],
)
def test_poses_without_key_points_are_told_from_polygons(
    tmp_path: Path, rows: str, is_pose: bool
) -> None:
    data = tree(tmp_path, rows)
    dataset = read_split(data, "train")
    box = dataset.records[0].boxes_xyxy_px[0].tolist()
    assert (box == pytest.approx([12, 5, 28, 15], abs=1e-5)) == is_pose


PLATE = "0 0.46 0.48 0.54 0.48 0.54 0.52 0.46 0.52\n"
DIAMOND = "0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5\n"
SIX_CORNERS = "0 0.46 0.48 0.5 0.47 0.54 0.48 0.54 0.52 0.5 0.53 0.46 0.52\n"


@pytest.mark.parametrize(
    ("row", "box"), [(PLATE, [18.4, 9.6, 21.6, 10.4]), (DIAMOND, [16, 8, 24, 12])]
)
def test_four_corners_near_the_centre_are_no_pose(
    tmp_path: Path, row: str, box: list[float]
) -> None:
    dataset = read_split(tree(tmp_path, row), "train")
    np.testing.assert_allclose(dataset.records[0].boxes_xyxy_px[0], box, atol=1e-5)
    assert not any("key points" in warning for warning in dataset.warnings)


def test_rows_that_may_be_polygons_or_poses_need_a_key_point_shape(tmp_path: Path) -> None:
    data = tree(tmp_path, SIX_CORNERS)
    expected = r"a b\.txt:1: rows of 13 numbers may be polygons.*kpt_shape.*\[4, 2\], or \[0, 2\]"
    with pytest.raises(UserError, match=expected):
        read_split(data, "train")
    faults = Faults(collects=True)
    read_split(data, "train", faults=faults)
    kinds = [fault.kind for fault in faults.found if not fault.is_info]
    assert (kinds, faults.edits) == (["malformed-row"], [])
    boxes = {"[0, 2]": [18.4, 9.4, 21.6, 10.6], "[0, 3]": [18.4, 9.4, 21.6, 10.6]}
    boxes["[4, 2]"] = [8.4, 4.9, 28.4, 14.3]
    for shape, box in boxes.items():
        (tmp_path / "data.yaml").write_text(f"kpt_shape: {shape}\n")
        read = read_split(data, "train").records[0].boxes_xyxy_px[0]
        np.testing.assert_allclose(read, box, atol=1e-5)

"""The report on a data set: counts by hand, and what it warns about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.anchor_fit import box_sizes
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from mindyolo_v4.tools.check_data import class_counts, describe_datasets, main, set_warnings


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Three images of 64 x 32: two truths, one truth, none; the second is in both splits."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    rows = ("0 0.5 0.5 0.5 0.5\n0 0.25 0.5 0.25 0.5\n", "2 0.5 0.5 0.5 1.0\n")
    for number in range(3):
        Image.new("RGB", (64, 32)).save(tmp_path / "images" / f"{number}.png")
    for number, row in enumerate(rows):
        (tmp_path / "labels" / f"{number}.txt").write_text(row)
    (tmp_path / "train.txt").write_text("images/0.png\nimages/1.png\nimages/2.png\n")
    (tmp_path / "val.txt").write_text("images/1.png\n")
    return DataConfig(
        format="yolo",
        root=str(tmp_path),
        train="train.txt",
        val="val.txt",
        names=("ant", "bee", "cow"),
        img_size=128,
        max_truths=1,
    )


def test_counts_and_sizes(data: DataConfig) -> None:
    train = read_split(data, "train")
    assert class_counts(train).tolist() == [2, 0, 1]
    # Letterboxed to 128, everything doubles.
    np.testing.assert_allclose(box_sizes(train, data), [[64, 32], [32, 32], [64, 64]], atol=1e-4)


def test_report(data: DataConfig) -> None:
    datasets = {split: read_split(data, split) for split in ("train", "val")}
    lines = describe_datasets(datasets, data).splitlines()
    assert lines[3].split()[:6] == ["train", "3", "0", "3", "0", "1"]
    assert lines[4].split()[:6] == ["val", "1", "0", "1", "0", "0"]
    assert [line.split() for line in lines[7:10]] == [
        ["0", "ant", "2", "0"],
        ["1", "bee", "0", "0"],
        ["2", "cow", "1", "1"],
    ]
    warnings = set_warnings(datasets, data)
    assert [warning.split(",")[0] for warning in warnings] == [
        "1 images are in train and in val",
        "1 classes have no box to train on: bee",
        "an image has 2 boxes",
    ]


def test_command_on_bccd(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = ["--data.format", "voc", "--data.train", "train", "data.val=val", "--data.test=test"]
    assert main([*section, "--data-dir", str(data_root / "bccd")]) == 0
    text = capsys.readouterr().out
    assert [
        line.split()[1]
        for line in text.splitlines()
        if line.startswith(("train ", "val ", "test "))
    ] == ["205", "87", "72"]
    assert "BloodImage_00343.xml:50: no area" in text
    with pytest.raises(UserError, match=r"data\.train: missing"):
        main(["--data-dir", str(data_root / "bccd")])

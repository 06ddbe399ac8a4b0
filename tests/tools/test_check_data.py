"""The report on a data set: counts by hand, and what it warns about."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.anchor_fit import box_sizes
from mindyolo_v4.data.readers.faults import Fault
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from mindyolo_v4.tools.check_data import all_faults, check_split, main
from mindyolo_v4.tools.data_report import class_counts, describe_datasets, fault_lines


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
    checked = {split: check_split(data, split, is_quick=False) for split in ("train", "val")}
    datasets = {split: one.dataset for split, one in checked.items() if one.dataset is not None}
    lines = describe_datasets(datasets, data)
    assert lines[2].split()[:6] == ["train", "3", "0", "3", "0", "1"]
    assert lines[3].split()[:6] == ["val", "1", "0", "1", "0", "0"]
    assert [line.split() for line in lines[6:9]] == [
        ["0", "ant", "2", "0"],
        ["1", "bee", "0", "0"],
        ["2", "cow", "1", "1"],
    ]
    faults = all_faults(checked, data)
    assert [(fault.kind, fault.message.split(",")[0]) for fault in faults] == [
        ("info-image-without-annotation", "lacks a label file"),
        ("shared-image", f"the same picture is in train: {data.root}/images/0.png"),
        ("info-class-without-boxes", "1 classes have no box to train on: bee"),
        ("info-many-boxes", "an image has 2 boxes"),
    ]


def test_infos_are_shortened_and_faults_are_not() -> None:
    faults = [Fault("info-grey-image", f"{number}.png", None, "is grey") for number in range(8)]
    faults += [Fault("malformed-row", "a.txt", number, "wrong") for number in range(1, 9)]
    lines = fault_lines(faults)
    assert lines[0] == "8 faults"
    assert lines[8] == "  malformed-row  a.txt:8: wrong"
    assert len(lines) == 1 + 8 + 2 + 5 + 1
    assert lines[-1] == "  info-grey-image  ... and 3 more (--json FILE has all)"


def run(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its status and what it writes as JSON."""
    status = main([*words, "--json", str(tmp_path / "faults.json")])
    return status, json.loads((tmp_path / "faults.json").read_text())


def test_quirks_of_bccd(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = ["--data.format", "voc", "--data.train", "train", "data.val=val", "--data.test=test"]
    words = [*section, "--data-dir", str(data_root / "bccd"), "--quick"]
    status, report = run(tmp_path, *words)
    assert status == 1
    assert [(one["kind"], Path(one["file"]).name, one["line"]) for one in report["faults"]] == [
        ("box-without-area", "BloodImage_00343.xml", 50),
        ("box-without-area", "BloodImage_00338.xml", 158),
    ]
    counts = report["counts"]
    assert [counts[split]["images"] for split in ("train", "val", "test")] == [205, 87, 72]
    assert sum(counts[split]["boxes"] for split in counts) == 4888 - 2
    assert sum(counts["train"]["classes"].values()) == counts["train"]["boxes"]
    assert "BloodImage_00343.xml:50: no area" in capsys.readouterr().out
    assert main([*words, "--split", "test"]) == 0
    with pytest.raises(UserError, match=r"data\.train: missing"):
        main(["--data-dir", str(data_root / "bccd")])


def test_quirks_of_coco128(data_root: Path, tmp_path: Path) -> None:
    names = ",".join(f"class {number}" for number in range(80))
    splits = ["--data.train", "images/train2017", "--data.val", "images/val2017"]
    words = ["--data_dir", str(data_root / "coco128"), "--data.names", f"[{names}]", *splits]
    status, report = run(tmp_path, "--data.format", "yolo", *words)
    assert status == 1
    found = {(one["kind"], Path(one["file"]).stem) for one in report["faults"]}
    assert found == {
        ("annotation-without-image", "000000000656"),
        ("annotation-without-image", "000000000659"),
        ("info-image-without-annotation", "000000000250"),
        ("info-image-without-annotation", "000000000508"),
        ("info-grey-image", "000000000086"),
        ("info-grey-image", "000000007888"),
        ("info-class-without-boxes", "train2017"),
    }
    assert report["counts"]["train"]["images_without_annotation"] == 2


def test_quirks_of_tiny_imagenet(data_root: Path, tmp_path: Path) -> None:
    words = ["--data_dir", str(data_root / "tinyimagenet10"), "--data.format", "imagenet"]
    splits = ["--data.train", "train", "--data.val", "val"]
    status, report = run(tmp_path, *words, *splits, "--quick")
    assert status == 0
    assert {one["kind"] for one in report["faults"]} == {"info-grey-image"}
    assert len(report["faults"]) == 47
    assert [report["counts"][split]["images"] for split in ("train", "val")] == [5000, 500]
    assert set(report["counts"]["train"]["classes"].values()) == {500}


def test_the_whole_set_is_checked_where_a_part_of_it_is_trained(
    data: DataConfig, tmp_path: Path
) -> None:
    splits = ["--data.train", "train.txt", "--data.val", "val.txt", "--data.fraction", "0.3"]
    words = ["--data.format", "yolo", "--data_dir", str(data.root), "--data.names", "[a, b, c]"]
    _, report = run(tmp_path, *words, *splits)
    assert report["counts"]["train"]["images"] == 3

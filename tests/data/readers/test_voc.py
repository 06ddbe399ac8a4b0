"""Pascal VOC reader: lists, difficult objects, names over all splits, errors with their lines."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError


def _object(
    name: str = "cat", box: tuple[object, ...] = (1, 2, 11, 12), difficult: str = "0"
) -> str:
    sides = "\n".join(
        f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    head = f"<object>\n<name>{name}</name>\n<difficult>{difficult}</difficult>\n"
    return f"{head}<bndbox>\n{sides}\n</bndbox>\n</object>\n"


def _annotation(*objects: str, size: tuple[int, int] = (40, 30)) -> str:
    head = f"<annotation>\n<size><width>{size[0]}</width><height>{size[1]}</height></size>\n"
    return f"{head}{''.join(objects)}</annotation>\n"


def _tree(root: Path, annotations: dict[str, str | None], **lists: str) -> DataConfig:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (name, text) in enumerate(annotations.items()):
        suffix = (".jpg", ".PNG", ".bmp", ".jpeg")[number % 4]
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}{suffix}")
        if text is not None:
            (root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    for name, content in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(content, encoding="utf-8")
    return DataConfig(
        format="voc", root=str(root), train="train", val="val" if "val" in lists else None
    )


def test_an_annotation_may_have_the_whole_name_of_its_image(tmp_path: Path) -> None:
    data = _tree(tmp_path, {"a.jpg": _annotation(_object())}, train="a.jpg\n")
    assert (tmp_path / "JPEGImages/a.jpg.jpg").is_file()
    (record,) = read_split(data, "train").records
    assert record.path.name == "a.jpg.jpg" and len(record.class_ids) == 1


def test_records(tmp_path: Path) -> None:
    annotations = {
        "a b.v1": _annotation(_object("dog"), _object("cat", (0, 0, 41.5, 30), "1")),
        "ß": _annotation(_object("cat")),
        "empty": _annotation(),
    }
    dataset = read_split(_tree(tmp_path, annotations, train="a b.v1\nß\n\nempty\n"), "train")
    assert (dataset.class_names, dataset.category_ids) == (("cat", "dog"), (1, 2))
    assert [record.path.name for record in dataset.records] == ["a b.v1.jpg", "ß.PNG", "empty.bmp"]
    assert [record.image_id for record in dataset.records] == [1, 2, 3]
    first = dataset.records[0]
    np.testing.assert_array_equal(
        first.boxes_xyxy_px, np.array([[1, 2, 11, 12], [0, 0, 40, 30]], np.float32)
    )
    np.testing.assert_array_equal(first.class_ids, [1, 0])
    np.testing.assert_array_equal(first.ignore, [False, True])
    np.testing.assert_array_equal(first.crowd, [False, False])
    np.testing.assert_array_equal(first.areas_px, [100, 1200])
    assert dataset.warnings == ()


def test_names_are_those_of_all_splits(tmp_path: Path) -> None:
    annotations = {"a": _annotation(_object("zebra")), "b": _annotation(_object("ant"))}
    data = _tree(tmp_path, annotations, train="a\n", val="b\n")
    train, val = read_split(data, "train"), read_split(data, "val")
    assert train.class_names == val.class_names == ("ant", "zebra")
    np.testing.assert_array_equal(train.records[0].class_ids, [1])


def test_names_from_a_file(tmp_path: Path) -> None:
    data = _tree(tmp_path, {"a": _annotation(_object("cat"))}, train="a\n")
    (tmp_path / "names.txt").write_text("dog\ncat\n\n")
    named = DataConfig(format="voc", root=data.root, train="train", names="names.txt")
    dataset = read_split(named, "train")
    assert dataset.class_names == ("dog", "cat") and dataset.records[0].class_ids.tolist() == [1]
    (tmp_path / "names.txt").write_text("dog\n")
    with pytest.raises(
        UserError, match=r"a\.xml:3: class is not among data\.names \(got cat, expected dog\)"
    ):
        read_split(named, "train")


def test_missing_annotation_file_makes_a_negative(tmp_path: Path) -> None:
    data = _tree(tmp_path, {"a": _annotation(_object()), "b": None}, train="a\nb\n")
    dataset = read_split(data, "train")
    assert len(dataset.records[1].class_ids) == 0
    assert len(dataset.warnings) == 1
    assert "train.txt: 1 of 2 images lack an annotation file, such as" in dataset.warnings[0]
    assert "b.PNG; they count as images without objects" in dataset.warnings[0]
    (tmp_path / "Annotations" / "a.xml").unlink()
    with pytest.raises(UserError, match="none of its images has an annotation file"):
        read_split(data, "train")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (_annotation(_object(box=(1, 2, "x", 12))), 9, "malformed bndbox/xmax"),
        (_annotation(_object(box=(1, "nan", 11, 12))), 8, "malformed bndbox/ymin"),
        (_annotation(_object(box=(20, 2, 11, 12))), 6, "box is turned round"),
        (_annotation(_object(difficult="no")), 5, "malformed difficult"),
        (_annotation(_object(name=" ")), 3, "object has no name"),
        (_annotation("<object><name>cat</name></object>"), 3, "malformed bndbox/xmin"),
        ("<annotation>\n<object>\n</annotation>", 3, "not valid XML: mismatched tag"),
        ("", 1, "not valid XML: no element found"),
    ],
)
def test_malformed_xml_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    with pytest.raises(UserError, match=rf"a\.xml:{line}: {message}"):
        read_split(_tree(tmp_path, {"a": text}, train="a\n"), "train")


def test_list_errors(tmp_path: Path) -> None:
    data = _tree(
        tmp_path, {"a": _annotation(_object())}, train="a\ngone\n", twice="a\na\n", none="\n"
    )
    with pytest.raises(UserError, match=r"train\.txt:2: image is missing"):
        read_split(data, "train")
    twice = read_split(DataConfig(format="voc", root=data.root, val="twice"), "val")
    assert len(twice) == 2
    assert re.search(
        r"twice\.txt:2: image is listed twice, first at .*:1; 1 rep", twice.warnings[0]
    )
    with pytest.raises(UserError, match="lists no images"):
        read_split(DataConfig(format="voc", root=data.root, val="none"), "val")
    with pytest.raises(UserError, match=r"data\.val: list not found"):
        read_split(DataConfig(format="voc", root=data.root, val="nowhere"), "val")


def test_stated_size(tmp_path: Path) -> None:
    unknown = _annotation(_object(), size=(0, 0))
    wrong = _annotation(_object(), size=(400, 300))
    data = _tree(tmp_path, {"a": unknown, "b": wrong}, train="a\n", val="b\n")
    assert read_split(data, "train").records[0].width == 40
    with pytest.raises(
        UserError, match=r"val\.txt:1: stated size is not that of .*got 400 x 300, expected 40 x 30"
    ):
        read_split(data, "val")


def test_bccd(data_root: Path) -> None:
    data = DataConfig(
        format="voc", root=str(data_root / "bccd"), train="train", val="val", test="test"
    )
    splits = [read_split(data, split) for split in ("train", "val", "test")]
    assert [len(split.records) for split in splits] == [205, 87, 72]
    assert {split.class_names for split in splits} == {("Platelets", "RBC", "WBC")}
    assert sum(len(record.class_ids) for split in splits for record in split.records) == 4888 - 2
    warnings = [warning for split in splits for warning in split.warnings]
    assert len(warnings) == 2
    assert (
        "BloodImage_00343.xml:50: no area" in warnings[0]
        and "BloodImage_00338.xml:158: no area" in warnings[1]
    )


def test_a_folder_stands_for_all_its_annotations(tmp_path: Path) -> None:
    data = _tree(tmp_path, {"a": _annotation(_object()), "b": _annotation(_object("dog"))})
    for split in (".", "Annotations"):
        dataset = read_split(replace(data, train=split), "train")
        assert [record.path.name for record in dataset.records] == ["a.jpg", "b.PNG"]
        assert [record.class_ids.tolist() for record in dataset.records] == [[0], [1]]
    (tmp_path / "JPEGImages/b.PNG").unlink()
    with pytest.raises(UserError, match=r"Annotations/b\.xml: its image is missing"):
        read_split(replace(data, train="."), "train")


@pytest.mark.parametrize(
    ("codec", "declared"), [("gbk", "gb2312"), ("cp932", "Shift_JIS"), ("utf-8", "utf8")]
)
def test_encodings(tmp_path: Path, codec: str, declared: str) -> None:
    data = _tree(tmp_path, {"a": ""}, train="a\n")
    head = f'<?xml version="1.0" encoding="{declared}"?>\n'
    path = tmp_path / "Annotations/a.xml"
    path.write_bytes((head + _annotation(_object("①" if codec == "cp932" else "喆"))).encode(codec))
    dataset = read_split(data, "train")
    assert dataset.class_names == ("①" if codec == "cp932" else "喆",)
    np.testing.assert_array_equal(dataset.records[0].boxes_xyxy_px, [[1, 2, 11, 12]])

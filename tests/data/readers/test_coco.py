"""COCO reader: the two trees, class order, crowd, and every error by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.faults import Faults
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError


def _content() -> dict[str, Any]:
    """Two images of 40 x 30; category ids 7 and 3 in file order."""
    return {
        "images": [
            {"id": 11, "file_name": "first one.jpg", "width": 40, "height": 30},
            {"id": 5, "file_name": "Größe.jpg", "width": 40, "height": 30},
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 7,
                "bbox": [1, 2, 10, 5],
                "area": 17.5,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 11,
                "category_id": 3,
                "bbox": [30, 20, 20, 20],
                "segmentation": [[1, 2, 3]],
            },
            {
                "id": 3,
                "image_id": 5,
                "category_id": 3,
                "bbox": [0, 0, 40, 30],
                "area": 9.0,
                "iscrowd": 1,
            },
        ],
    }


def _write(
    root: Path, content: Any, images: str = "train2017", file: str = "instances_train2017.json"
) -> DataConfig:
    (root / images).mkdir(parents=True, exist_ok=True)
    for name in ("first one.jpg", "Größe.jpg"):
        Image.new("RGB", (40, 30)).save(root / images / name)
    (root / "annotations").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "annotations" / file).write_text(text, encoding="utf-8")
    return DataConfig(format="coco", root=str(root), train=f"annotations/{file}")


def _count(dataset: Dataset) -> int:
    return sum(len(record.class_ids) for record in dataset.records)


def test_records_hold_what_the_file_says(tmp_path: Path) -> None:
    dataset = read_split(_write(tmp_path, _content()), "train")
    assert (dataset.class_names, dataset.category_ids) == (("dog", "cat"), (3, 7))
    first, second = dataset.records
    assert (first.image_id, first.path, first.width, first.height) == (
        11,
        tmp_path / "train2017" / "first one.jpg",
        40,
        30,
    )
    np.testing.assert_array_equal(
        first.boxes_xyxy_px, np.array([[30, 20, 40, 30]], np.float32)
    )  # clipped
    np.testing.assert_array_equal(first.areas_px, [100.0])  # not stated: that of the clipped box
    np.testing.assert_array_equal(
        second.boxes_xyxy_px, np.array([[1, 2, 11, 7], [0, 0, 40, 30]], np.float32)
    )
    np.testing.assert_array_equal(second.class_ids, [1, 0])
    np.testing.assert_array_equal(second.areas_px, [17.5, 9.0])
    np.testing.assert_array_equal(second.ignore, [False, True])
    np.testing.assert_array_equal(second.crowd, [False, True])
    assert second.boxes_xyxy_px.dtype == np.float32 and second.class_ids.dtype == np.int64
    assert dataset.warnings == ()


@pytest.mark.parametrize(
    "images", ["train2017", "images/train2017", "images", "annotations", "elsewhere", "."]
)
def test_images_are_found_in_either_tree(tmp_path: Path, images: str) -> None:
    dataset = read_split(_write(tmp_path, _content(), images), "train")
    assert dataset.records[0].path == tmp_path / images / "first one.jpg"


@pytest.mark.parametrize("before", ["C:\\sets\\", "/home/other/sets/", "\\\\server\\sets\\cats\\"])
def test_absolute_names_of_another_machine_are_found_by_their_end(
    tmp_path: Path, before: str
) -> None:
    content = _content()
    for entry in content["images"]:
        entry["file_name"] = before + entry["file_name"]
    data = _write(tmp_path, content)
    folder = tmp_path / "train2017"
    read = [record.path for record in read_split(data, "train").records]
    assert read == [folder / "first one.jpg", folder / "Größe.jpg"]
    (folder / "sets").mkdir()
    (folder / "first one.jpg").rename(folder / "sets/first one.jpg")
    Image.new("RGB", (40, 30)).save(folder / "first one.jpg")
    (first, *_) = read_split(data, "train").records
    assert first.path == folder / ("first one.jpg" if "cats" in before else "sets/first one.jpg")


def test_the_folder_named_by_the_annotation_file_wins(tmp_path: Path) -> None:
    for folder in ("aaa", "images/val2017", "val"):
        _write(tmp_path, _content(), folder)
    data = _write(tmp_path, _content(), "val2017", "val2017_from_boxes.json")
    assert read_split(data, "train").records[0].path.parent == tmp_path / "val2017"


def test_two_equal_folders_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, _content(), "one")
    data = _write(tmp_path, _content(), "two")
    with pytest.raises(UserError, match="several folders hold images"):
        read_split(data, "train")


def test_explicit_images_folder_and_symlink(tmp_path: Path) -> None:
    data = _write(tmp_path, _content(), "one")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    split = {"annotations": data.train, "images": "link"}
    dataset = read_split(DataConfig(root=str(tmp_path), val=split), "val")
    assert dataset.records[0].path == tmp_path / "link" / "first one.jpg"
    with pytest.raises(UserError, match=r"data\.val\.images: folder not found"):
        read_split(DataConfig(root=str(tmp_path), val={**split, "images": "nowhere"}), "val")


def test_names_in_the_configuration_set_the_class_order(tmp_path: Path) -> None:
    root = str(tmp_path)
    data = _write(tmp_path, _content())
    dataset = read_split(DataConfig(root=root, train=data.train, names=["cat", "dog"]), "train")
    assert (dataset.class_names, dataset.category_ids) == (("cat", "dog"), (7, 3))
    np.testing.assert_array_equal(dataset.records[1].class_ids, [0, 1])
    with pytest.raises(
        UserError, match=r"data\.names: differs .*\(got cow not in the file; dog in the file only, "
    ):
        read_split(DataConfig(root=root, train=data.train, names=["cat", "cow"]), "train")
    with pytest.raises(UserError, match=r"data\.num_classes: disagrees .*\(got 80, expected 2\)"):
        read_split(DataConfig(root=root, train=data.train, num_classes=80), "train")


def test_box_without_area_or_outside_is_dropped_and_named(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][1]["bbox"] = [3, 4, 0, 9]
    content["annotations"][2]["bbox"] = [50, 4, 5, 5]
    dataset = read_split(_write(tmp_path, content), "train")
    assert _count(dataset) == 1
    assert len(dataset.records[0].class_ids) == 0  # the image stays, as a negative
    source = tmp_path / "annotations" / "instances_train2017.json"
    assert dataset.warnings == (
        f"{source}: annotation 2: no area, box dropped (got 3 4 3 13)",
        f"{source}: annotation 3: outside the image, box dropped (got 50 4 55 9)",
    )


def test_a_file_without_annotations_serves_testing_but_not_training(tmp_path: Path) -> None:
    content = _content()
    del content["annotations"]
    data = _write(tmp_path, content)
    with pytest.raises(UserError, match="no boxes to train on"):
        read_split(data, "train")
    dataset = read_split(DataConfig(root=data.root, test=data.train), "test")
    assert len(dataset.records) == 2 and "AP is undefined" in dataset.warnings[0]


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("image_id", 99, "annotation 2: its image_id is not among the images"),
        ("category_id", 80, "annotation 2: its category_id is not among the categories"),
        ("category_id", True, "annotation 2: its category_id is not among the categories"),
        ("bbox", [1, 2, 3], "annotation 2: malformed bbox"),
        ("bbox", None, "annotation 2: malformed bbox"),
        ("bbox", [1, 2, float("nan"), 3], "annotation 2: malformed bbox"),
        ("bbox", [1, 2, -3, 3], "annotation 2: negative width or height"),
        ("iscrowd", 2, "annotation 2: malformed iscrowd"),
        ("area", float("inf"), "annotation 2: malformed area"),
    ],
)
def test_malformed_annotation_is_named(
    tmp_path: Path, entry: str, value: Any, message: str
) -> None:
    content = _content()
    content["annotations"][1][entry] = value
    with pytest.raises(UserError, match=f"instances_train2017.json: {message}"):
        read_split(_write(tmp_path, content), "train")


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("id", 11, "image 11: image id occurs twice"),
        ("id", None, r"images\[1\]: id is not an integer"),
        ("file_name", "first one.jpg", "image 5: file_name occurs twice, first in image 11"),
        ("file_name", "", "image 5: has no file_name"),
        ("file_name", "gone.jpg", "image 5: image is missing .*gone.jpg"),
        ("width", "40", "image 5: malformed width or height"),
        ("width", 80, r"image 5: stated size is not that of .*\(got 80 x 30, expected 40 x 30\)"),
    ],
)
def test_malformed_image_is_named(tmp_path: Path, entry: str, value: Any, message: str) -> None:
    content = _content()
    content["images"][1][entry] = value
    with pytest.raises(UserError, match=message):
        read_split(_write(tmp_path, content), "train")


def test_a_second_id_of_an_image_stands_for_the_first(tmp_path: Path) -> None:
    content = _content()
    content["images"][1]["file_name"] = "first one.jpg"
    faults = Faults(collects=True)
    dataset = read_split(_write(tmp_path, content), "train", faults=faults)
    assert [fault.kind for fault in faults.found if "info" not in fault.kind] == [
        "repeated-image",
        "box-over-border",
    ]
    (record,) = dataset.records
    assert record.image_id == 11
    expected = [[1, 2, 11, 7], [30, 20, 40, 30], [0, 0, 40, 30]]
    np.testing.assert_array_equal(record.boxes_xyxy_px, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "x": ]}', r"instances_train2017\.json:2: not valid JSON"),
        ("[]", "not a COCO file"),
        ('{"images": []}', "no 'categories'"),
        ('{"images": [1], "categories": []}', "'images' is not a list of objects"),
        ('{"images": [], "categories": []}', "has no categories"),
        ('{"images": [], "categories": [{"id": "1", "name": "a"}]}', "malformed category"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "occurs twice",
        ),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}]}', "has no images"),
    ],
)
def test_malformed_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_split(_write(tmp_path, text), "train")


def test_images_nowhere(tmp_path: Path) -> None:
    data = _write(tmp_path, _content())
    for path in (tmp_path / "train2017").iterdir():
        path.unlink()
    with pytest.raises(
        UserError, match=r"image 11: image is missing: first one.jpg in .*train2017"
    ):
        read_split(data, "train")


def test_an_empty_image_is_named(tmp_path: Path) -> None:
    data = _write(tmp_path, _content())
    (tmp_path / "train2017" / "Größe.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"image 5: image has zero bytes .*Größe.jpg"):
        read_split(data, "train")


def test_size_annotated_without_exif_orientation(tmp_path: Path) -> None:
    content = _content()
    data = _write(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = 6  # the decoder turns it a quarter clockwise: 30 wide, 40 high
    Image.new("RGB", (40, 30)).save(tmp_path / "train2017" / "first one.jpg", exif=exif)
    dataset = read_split(data, "train")
    assert (dataset.records[0].width, dataset.records[0].height) == (30, 40)
    # (30, 20, 40, 30) is the lower right corner, which a clockwise quarter turn puts lower left
    np.testing.assert_array_equal(
        dataset.records[0].boxes_xyxy_px, np.array([[0, 30, 10, 40]], np.float32)
    )
    assert "annotated without its EXIF orientation" in dataset.warnings[0]


def test_coco128(data_root: Path) -> None:
    data = DataConfig(
        root=str(data_root / "coco128"),
        train="annotations/instances_train2017.json",
        val="annotations/val2017_from_yolo_boxes.json",
    )
    train, val = read_split(data, "train"), read_split(data, "val")
    assert (len(train.records), len(val.records)) == (128, 128)
    assert sum(int((~r.ignore).sum()) for r in train.records) == 929
    assert sum(int(r.crowd.sum()) for r in train.records) == 10
    assert _count(val) == 898
    assert (
        train.class_names == val.class_names
        and train.category_ids[-1] == 90
        and len(train.category_ids) == 80
    )
    assert val.records[0].path.parent.name == "val2017"
    assert train.warnings == ()
    trained = {class_id for r in train.records for class_id in r.class_ids[~r.ignore].tolist()}
    assert len(trained) == 71


def _kind(number: int, name: str, parent: str) -> dict[str, Any]:
    return {"id": number, "name": name, "supercategory": parent}


@pytest.mark.parametrize(
    ("kinds", "names", "ids"),
    [
        ([_kind(3, "pets", "none"), _kind(7, "cat", "pets")], ("cat",), (7,)),
        ([_kind(3, "cat", "none"), _kind(7, "cat", "cat")], ("cat",), (7,)),
        ([_kind(7, "person", "person"), _kind(3, "dog", "person")], ("dog", "person"), (3, 7)),
        ([_kind(3, "cat", ""), _kind(7, "cat", "")], ("cat",), (3,)),
    ],
    ids=["of the project", "of a set of one class", "as in COCO", "one class twice"],
)
def test_categories_that_are_no_classes(
    tmp_path: Path, kinds: list[dict[str, Any]], names: tuple[str, ...], ids: tuple[int, ...]
) -> None:
    content = _content()
    content["categories"] = kinds
    content["annotations"] = content["annotations"][:1]  # of category 7
    for image in content["images"]:
        image["file_name"] = f"data\\train2017\\{image['file_name']}"
        image["width"] = 40.0
    dataset = read_split(_write(tmp_path, content), "train")
    assert (dataset.class_names, dataset.category_ids) == (names, ids)
    name_of_7 = next(kind["name"] for kind in kinds if kind["id"] == 7)
    assert dataset.records[1].class_ids.tolist() == [names.index(name_of_7)]
    assert dataset.records[0].path.name == "first one.jpg"

"""YOLO txt reader: lists and folders, negatives, polygons, and every error with its line."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.faults import Faults
from mindyolo_v4.data.readers.files import spellings
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.readers.yolo import label_candidates
from mindyolo_v4.errors import UserError


def tree(root: Path, rows: str = "0 0.5 0.5 0.5 0.5\n", images: str = "images/train") -> DataConfig:
    """Two images of 40 x 20, the second without a label file."""
    folder = root / images
    folder.mkdir(parents=True)
    for name in ("a b.jpg", "ü.PNG"):
        Image.new("RGB", (40, 20)).save(folder / name)
    labels = root / images.replace("images", "labels")
    labels.mkdir(parents=True, exist_ok=True)
    (labels / "a b.txt").write_text(rows)
    return DataConfig(format="yolo", root=str(root), train=images, names=["cat", "dog"])


def test_folder(tmp_path: Path) -> None:
    rows = "1 0.5 0.5 0.5 0.5\n\n0 0.0 0.25 0.2 0.5\n"
    dataset = read_split(tree(tmp_path, rows), "train")
    first, second = dataset.records
    np.testing.assert_allclose(
        first.boxes_xyxy_px, [[10, 5, 30, 15], [0, 0, 4, 10]], atol=1e-6
    )  # second one clipped
    np.testing.assert_array_equal(first.class_ids, [1, 0])
    np.testing.assert_allclose(first.areas_px, [200, 40], atol=1e-5)
    assert (first.image_id, second.image_id) == (1, 2)
    assert (first.width, first.height, len(second.class_ids)) == (40, 20, 0)
    assert dataset.category_ids == (1, 2)
    assert first.label_path == str(tmp_path / "labels" / "train" / "a b.txt")


def test_folder_name_alone_is_looked_for_below_images(tmp_path: Path) -> None:
    data = tree(tmp_path)
    short = DataConfig(format="yolo", root=data.root, train="train", names=data.names)
    assert [r.path for r in read_split(short, "train").records] == [
        r.path for r in read_split(data, "train").records
    ]


@pytest.mark.parametrize(
    "line",
    ["./images/train/a b.jpg", "images/train/a b.jpg", "ABSOLUTE", "../images/train/a b.jpg"],
)
def test_list_lines(tmp_path: Path, line: str) -> None:
    data = tree(tmp_path)
    image = tmp_path / "images" / "train" / "a b.jpg"
    (tmp_path / "lists").mkdir()
    # Relative to root, except the last, which is relative to the list's own folder.
    (tmp_path / "lists" / "t.txt").write_text(
        f"\ufeff\n{line.replace('ABSOLUTE', str(image))}\r\n\n", encoding="utf-8"
    )
    dataset = read_split(
        DataConfig(format="yolo", root=data.root, train="lists/t.txt", names=data.names), "train"
    )
    assert [record.path for record in dataset.records] == [image]
    assert len(dataset.records[0].class_ids) == 1


def test_label_candidates_replace_the_last_images_below_root() -> None:
    root = Path("/images/set")
    assert (
        label_candidates(root / "images/x/images/a.jpg", root)[0] == root / "images/x/labels/a.txt"
    )
    assert label_candidates(root / "train2017/a.jpg", root) == [
        root / "labels/train2017/a.txt",
        root / "train2017/a.txt",
    ]
    assert label_candidates(Path("/other/images/a.b.jpg"), root)[0] == Path("/other/labels/a.b.txt")


@pytest.mark.parametrize("images", ["train2017", "train/images"])
def test_labels_of_other_trees(tmp_path: Path, images: str) -> None:
    data = tree(tmp_path, images=images)
    if images == "train2017":
        (tmp_path / "labels" / "train2017").mkdir(parents=True)
        (tmp_path / "train2017" / "a b.txt").rename(tmp_path / "labels" / "train2017" / "a b.txt")
    assert len(read_split(data, "train").records[0].class_ids) == 1


def test_polygon_is_the_box_around_it(tmp_path: Path) -> None:
    dataset = read_split(tree(tmp_path, "1 0.1 0.2 0.5 0.9 0.3 0.1\n"), "train")
    np.testing.assert_allclose(dataset.records[0].boxes_xyxy_px, [[4, 2, 20, 18]], atol=1e-5)


def test_repeated_and_empty_rows_are_dropped_and_named(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0 0.5\n"
    dataset = read_split(tree(tmp_path, rows), "train")
    np.testing.assert_array_equal(dataset.records[0].class_ids, [0, 1])
    label = tmp_path / "labels" / "train" / "a b.txt"
    without = tmp_path / "images" / "train" / "ü.PNG"
    problem = "they count as images without objects"
    assert dataset.warnings == (
        f"{tmp_path}/images/train: 1 of 2 images lack a label file, such as {without}; {problem}",
        f"{label}:3: repeats an earlier one, box dropped (got 10 5 30 15)",
        f"{label}:4: no area, box dropped (got 20 5 20 15)",
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2 0.5 0.5 0.5 0.5", r"class out of range \(got .*, expected 0 to 1\)"),
        ("-1 0.5 0.5 0.5 0.5", "class out of range"),
        ("0.5 0.5 0.5 0.5 0.5", "class out of range"),
        ("0 20 10 5 5", "coordinates are not fractions"),
        ("0 -0.2 0.5 0.5 0.5", "coordinates are not fractions"),
        ("0 0.5 0.5 -0.005 0.5", "negative width or height"),
        ("0 nan 0.5 0.5 0.5", "not finite"),
        ("0 0.5 0.5 0.5", "wrong number of fields"),
        ("0 0.5 0.5 0.5 0.5 0.9", "wrong number of fields"),
        ("cat 0.5 0.5 0.5 0.5", "not numbers"),
    ],
)
def test_malformed_row_is_named_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"a b\.txt:3: {message}"):
        read_split(tree(tmp_path, f"0 0.5 0.5 0.5 0.5\n\n{row}\n"), "train")


def test_list_errors_name_the_line(tmp_path: Path) -> None:
    data = tree(tmp_path)
    listed = DataConfig(format="yolo", root=data.root, train="t.txt", names=data.names)
    file = tmp_path / "t.txt"
    file.write_text("images/train/a b.jpg\nimages/train/gone.jpg\n")
    with pytest.raises(UserError, match=r"t\.txt:2: image is missing \(got images/train/gone\.jpg"):
        read_split(listed, "train")
    file.write_text("images/train/a b.jpg\n\n./images/train/a b.jpg\n")
    twice = read_split(listed, "train")
    assert [record.class_ids.tolist() for record in twice.records] == [[0], [0]]
    assert re.search(r"t\.txt:3: image is listed twice, first at .*t\.txt:1", twice.warnings[0])
    (tmp_path / "images" / "train" / "ü.PNG").write_bytes(b"no image")
    file.write_text("images/train/a b.jpg\nimages/train/ü.PNG\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"t\.txt:2: not a readable image"):
        read_split(listed, "train")
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no images"):
        read_split(listed, "train")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"t\.txt: not UTF-8 text"):
        read_split(listed, "train")


def test_a_layout_without_any_label_file_is_refused(tmp_path: Path) -> None:
    data = tree(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "lables")
    with pytest.raises(
        UserError, match=r"none of its images has a label file .*labels/train/a b\.txt"
    ):
        read_split(data, "train")
    with pytest.raises(UserError, match=r"data\.val: not found"):
        read_split(
            DataConfig(format="yolo", root=data.root, val="nowhere", names=data.names), "val"
        )
    with pytest.raises(UserError, match=r"data\.val: not a split of data\.format yolo"):
        read_split(
            DataConfig(format="yolo", root=data.root, val={"annotations": "x"}, names=data.names),
            "val",
        )


def test_coco128_equals_the_json(data_root: Path) -> None:
    root = str(data_root / "coco128")
    coco = read_split(DataConfig(root=root, train="annotations/instances_train2017.json"), "train")
    data = DataConfig(
        format="yolo",
        root=root,
        train="images/train2017",
        val="images/val2017",
        names=coco.class_names,
    )
    yolo = read_split(data, "train")
    assert len(yolo.records) == 128
    assert [r.path.name for r in yolo.records if len(r.class_ids) == 0] == [
        "000000000250.jpg",
        "000000000508.jpg",
    ]
    by_name = {record.path.name: record for record in coco.records}
    for record in yolo.records:
        other = by_name[record.path.name]
        trained = ~other.ignore
        assert (record.width, record.height) == (other.width, other.height)
        # Rows may stand in another order: compare them sorted by class and location.
        mine = np.column_stack([record.class_ids, record.boxes_xyxy_px])
        theirs = np.column_stack([other.class_ids[trained], other.boxes_xyxy_px[trained]])
        mine, theirs = (rows[np.lexsort(np.round(rows).T[::-1])] for rows in (mine, theirs))
        np.testing.assert_allclose(mine, theirs, atol=0.01)
    assert sum(len(record.class_ids) for record in read_split(data, "val").records) == 898


def test_lists_beside_the_labels_are_no_labels_without_image(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    texts = {"a": "0 0.5 0.5 0.5 0.5\n", "train": "\na.jpg\n", "info": "made by hand\n"}
    texts |= {"gone": "\n0 0.5 0.5 0.5 0.5\n", "empty": ""}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    data = DataConfig(format="yolo", root=str(tmp_path), train="train.txt", names=["cat"])
    faults = Faults(collects=True)
    read_split(data, "train", faults=faults)
    without = [fault.file for fault in faults.found if fault.kind == "annotation-without-image"]
    assert without == [str(tmp_path / "empty.txt"), str(tmp_path / "gone.txt")]


def test_capitals_of_label_files(tmp_path: Path) -> None:
    data = tree(tmp_path)
    images, labels = tmp_path / "images/train", tmp_path / "labels/train"
    Image.new("RGB", (40, 20)).save(images / "A B.jpg")
    (labels / "a b.txt").rename(labels / "a b.TXT")
    (labels / "Ü.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    records = {record.path.name: record for record in read_split(data, "train").records}
    assert records["a b.jpg"].label_path == str(labels / "a b.TXT")
    assert records["A B.jpg"].label_path == ""  # a b.TXT is that of another image
    assert records["ü.PNG"].class_ids.tolist() == [1]


def test_links_multiply_no_image_and_other_folders_hold_none(tmp_path: Path) -> None:
    data = tree(tmp_path)
    folder = tmp_path / "images/train"
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        (folder / name).mkdir()
        Image.new("RGB", (40, 20)).save(folder / name / "a.jpg")
    for name in ("0", "1"):
        (folder / name).symlink_to(".")
    (tmp_path / "images/val").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images/val/y.jpg")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(tmp_path / "images")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "elsewhere/x.jpg")
    (folder / "2").symlink_to(tmp_path / "elsewhere")
    paths = [record.path.relative_to(folder) for record in read_split(data, "train").records]
    assert [str(path) for path in paths] == ["2/x.jpg", "a b.jpg", "ü.PNG"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", ["a/b.jpg"]),
        ("data/a/b.jpg", ["data/a/b.jpg", "a/b.jpg"]),
        ("a\\b.jpg", ["a\\b.jpg", "a/b.jpg"]),
        ("data/", ["data/"]),
        ("x/data/y/data/b.jpg", ["x/data/y/data/b.jpg", "y/data/b.jpg", "b.jpg"]),
        ("C:\\set\\a.jpg", ["C:\\set\\a.jpg", "C:/set/a.jpg", "set/a.jpg", "a.jpg"]),
        ("/x/data/b.jpg", ["/x/data/b.jpg", "x/data/b.jpg", "data/b.jpg", "b.jpg"]),
        ("/x/y/", ["/x/y/", "x/y/", "y/"]),
    ],
)
def test_spellings(name: str, expected: list[str]) -> None:
    assert spellings(name) == expected


def test_an_absolute_path_that_a_user_has_typed_is_meant_as_it_stands() -> None:
    assert spellings("/x/y/b.jpg", is_typed=True) == ["/x/y/b.jpg"]

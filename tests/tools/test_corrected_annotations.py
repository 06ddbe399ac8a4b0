"""A corrected copy has no fault that editing mends, and leaves the rest as it was."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mindyolo_v4.tools.check_data import main
from tests.inputs.images import png

FIVE = [
    "0 0.5 0.5 0.5 0.5",
    "1 32 16 16 8",  # pixels of 64 x 32
    "0 0.5 0.5 0.5 0.5",  # again
    "x y",
    "1 0.99 0.5 0.1 0.5",  # over the border by 2.56 pixels
]


def images(root: Path, folder: str, names: str) -> None:
    (root / folder).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (64, 32), (ord(name), 0, 0)).save(root / folder / f"{name}.png")


def fix_and_check(root: Path, words: list[str], target: Path) -> tuple[list[str], list[str]]:
    """Fix a set, put the copy over it, and return the kinds of the faults before and after."""
    kinds = []
    for number in range(2):
        report = target.with_name(f"{number}.json")
        fix = ["--fix", str(target)] if number == 0 else []
        main([*words, "--data_dir", str(root), "--json", str(report), *fix])
        faults = json.loads(report.read_text())["faults"]
        kinds.append([fault["kind"] for fault in faults if not fault["kind"].startswith("info")])
        shutil.copytree(target, root, dirs_exist_ok=True)
    return kinds[0], kinds[1]


def test_yolo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    images(root, "images", "ab")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("\n".join(FIVE) + "\n")
    (root / "labels/b.txt").write_text("1 0.123456789 0.5 0.1 0.1\n")
    (root / "train.txt").write_text("images/a.png\nimages/gone.png\nimages/b.png\n")
    words = ["--data.format", "yolo", "--data.train", "train.txt", "--data.names", "[cat, dog]"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert sorted(before) == [
        "box-over-border",
        "malformed-row",
        "missing-image",
        "pixels-for-fractions",
        "repeated-box",
    ]
    assert after == []
    assert (root / "labels/a.txt").read_text().splitlines() == [
        "0 0.5 0.5 0.5 0.5",
        "1 0.500000 0.500000 0.250000 0.250000",
        "1 0.970000 0.500000 0.060000 0.500000",
    ]
    assert (root / "labels/b.txt").read_text() == "1 0.123456789 0.5 0.1 0.1\n"
    assert (root / "train.txt").read_text() == "images/a.png\nimages/b.png\n"
    text = capsys.readouterr().out
    assert f"5 changes in {tmp_path / 'fixed'}" in text
    assert "labels/a.txt: line 3 removed" in text
    assert "train.txt: line 2 removed" in text


@pytest.mark.parametrize(
    "row",
    [
        "0 0.5 0.5 1.01 0.5 0.4 0.4 0.6 0.6",  # a box that reaches over the border, and key points
        "0 0.1 0.1 1.01 0.2 0.3 0.9",  # a polygon
    ],
)
def test_rows_of_more_than_a_box_stay(tmp_path: Path, row: str) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (400, 100)).save(root / "images/a.png")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text(f"{row}\n")
    words = ["--data.format", "yolo", "--data.train", "images", "--data.names", "[cat]"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert before == after == ["box-over-border"]
    assert (root / "labels/a.txt").read_text() == f"{row}\n"


def test_all_lists_of_a_split_are_copied(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "ab")
    (root / "labels").mkdir()
    for name in "ab":
        (root / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (root / f"{name}.txt").write_text(f"images/{name}.png\n")
    words = ["--data.format", "yolo", "--data.train", "[a.txt, b.txt]", "--data.names", "[cat]"]
    assert fix_and_check(root, words, tmp_path / "fixed") == ([], [])
    fixed = tmp_path / "fixed"
    copied = {str(file.relative_to(fixed)) for file in fixed.rglob("*.*")}
    assert copied == {"a.txt", "b.txt", "labels/a.txt", "labels/b.txt"}


@pytest.mark.parametrize("val", ["1 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.5 0.1\n", "1 0.5 0.5 0.5 0.5\n"])
def test_class_ids_move_only_where_all_splits_start_at_1(
    tmp_path: Path, val: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    for name, content in (("a", "1 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.2 0.2\n"), ("b", val)):
        images(root, f"images/{name}", name)
        (root / f"labels/{name}").mkdir(parents=True)
        (root / f"labels/{name}/{name}.txt").write_text(content)
    splits = ["--data.train", "images/a", "--data.val", "images/b"]
    words = ["--data.format", "yolo", "--data.names", "[cat, dog, cow]", *splits]
    _, after = fix_and_check(root, words, tmp_path / "fixed")
    is_certain = "3 0.5" in val
    assert (after == []) == is_certain
    first = (root / "labels/a/a.txt").read_text().split()[0]
    assert first == ("0" if is_certain else "1")
    assert ("not all splits show that" in capsys.readouterr().out) != is_certain


def test_class_ids_of_rows_with_another_fault_move_too(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "a")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("1 20 16 10 8\n2 40 16 12 8\n2 0.5 0.5 0.5 -0.005\n")
    words = ["--data.format", "yolo", "--data.train", "images", "--data.names", "[cat, dog]"]
    fix_and_check(root, words, tmp_path / "ids")
    _, after = fix_and_check(root, words, tmp_path / "boxes")
    assert after == []
    assert (root / "labels/a.txt").read_text().splitlines() == [
        "0 0.312500 0.500000 0.156250 0.250000",  # of 64 x 32
        "1 0.625000 0.500000 0.187500 0.250000",
        "1 0.500000 0.500000 0.500000 0.005000",
    ]


def test_a_class_0_in_a_refused_row_shows_that_ids_start_at_0(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "a")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("0 20 16 10 8\n1 0.5 0.5 0.5 0.25\n2 0.5 0.5 0.5 0.25\n")
    words = ["--data.format", "yolo", "--data.train", "images", "--data.names", "[cat, dog]"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert before == ["pixels-for-fractions", "unknown-class"]
    assert after == []
    assert [row[0] for row in (root / "labels/a.txt").read_text().splitlines()] == ["0", "1"]


def test_pixels_of_an_image_above_the_usual_limit_become_fractions(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "images/a.png").write_bytes(png(20_000, 20_000))  # 400 megapixels
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("0 5000 10000 2000 4000\n")
    words = ["--data.format", "yolo", "--data.train", "images", "--data.names", "[cat]"]
    words += ["--data.max_megapixels", "500", "--quick"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert (before, after) == (["pixels-for-fractions", "no-boxes"], [])
    assert (root / "labels/a.txt").read_text() == "0 0.250000 0.500000 0.100000 0.200000\n"


@pytest.mark.parametrize("row", ["0 1.3 0.5 0.3 0.3", "0 1.3 1.5 1.2 1.1", "0 20 0.5 10 8"])
def test_a_wrong_fraction_is_no_box_in_pixels(tmp_path: Path, row: str) -> None:
    root = tmp_path / "set"
    images(root, "images", "a")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{row}\n")
    words = ["--data.format", "yolo", "--data.train", "images", "--data.names", "[cat]"]
    assert fix_and_check(root, words, tmp_path / "fixed") == (["pixels-for-fractions"], [])
    assert (root / "labels/a.txt").read_text() == "0 0.5 0.5 0.5 0.5\n"


def test_corrected_files_outside_the_root_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "other", "images", "a")
    label = tmp_path / "other/labels/a.txt"
    label.parent.mkdir()
    label.write_text("0 0.5 0.5 0.5 0.5\nx\n")
    root = tmp_path / "set"
    root.mkdir()
    (root / "train.txt").write_text(f"{tmp_path}/other/images/a.png\n")
    words = ["--data.format", "yolo", "--data.train", "train.txt", "--data.names", "[cat]"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert before == after == ["malformed-row"]
    fixed = tmp_path / "fixed" / label.relative_to("/")
    assert fixed.read_text() == "0 0.5 0.5 0.5 0.5\n"
    text = f"1 corrected files belong outside {root}, such as {label}: copy each to its place"
    assert text in capsys.readouterr().out


def test_coco_keeps_what_it_does_not_mend(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "abc")
    (root / "images/c.png").write_bytes(b"")
    names = [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate("abc", 1)]
    for entry in names:
        entry |= {"width": 64, "height": 32, "license": 4}
    names[1]["width"] = 60
    boxes = [[1, 2, 3, 4], [60, 2, 10, 4], [1, 2, 0, 4], [1, 2, 3, 4], [9, 9, 9, 9], [5, 5, 5, 5]]
    owners = [1, 1, 2, 1, 2, 3]
    entries = [
        {"id": number, "image_id": owner, "category_id": 7, "bbox": box, "area": box[2] * box[3]}
        for number, (owner, box) in enumerate(zip(owners, boxes, strict=True), 1)
    ]
    entries[4] |= {"id": 1, "segmentation": [[9, 9, 18, 9, 18, 18]], "score": 0.5}
    content = {"info": {"year": 2026}, "images": names, "annotations": entries}
    content["categories"] = [{"id": 7, "name": "cat"}]
    (root / "train.json").write_text(json.dumps(content))
    before, after = fix_and_check(
        root, ["--data.format", "coco", "--data.train", "train.json"], tmp_path / "fixed"
    )
    assert sorted(before) == [
        "box-over-border",
        "box-without-area",
        "empty-image",
        "repeated-annotation-id",
        "repeated-box",
        "wrong-size",
    ]
    assert after == []
    fixed = json.loads((root / "train.json").read_text())
    assert fixed["info"] == {"year": 2026}
    assert fixed["images"] == [names[0], {**names[1], "width": 64}]
    assert fixed["annotations"] == [
        entries[0],
        {**entries[1], "bbox": [60, 2, 4, 4], "area": 16},
        {**entries[4], "id": 7},
    ]


def test_coco_annotations_of_repeated_images_and_refused_categories_stay(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "a")
    names = [{"id": number, "file_name": "a.png", "width": 64, "height": 32} for number in (1, 2)]
    keys = ((1, 1), (2, 1), (1, 2), (2, 9))  # image and category
    entries = [
        {"id": number, "image_id": image, "category_id": category, "bbox": [number, 2, 3, 4]}
        for number, (image, category) in enumerate(keys, 1)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": 7}]
    content = {"images": names, "annotations": entries, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))
    words = ["--data.format", "coco", "--data.train", "train.json"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    same = ["malformed-entry", "repeated-image", "unknown-class"]
    assert sorted(before) == [*same, "unknown-class"]
    assert sorted(after) == same
    assert json.loads((root / "train.json").read_text()) == {**content, "annotations": entries[:3]}


def test_coco_boxes_of_negative_sides_and_places(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "a")
    boxes = [[20, 9, -9, 4], [20, 20, 9, -4], [-5, -3, 9, 9], [3, 2, -9, 4], [-9, 2, 5, 4]]
    fixed = [[11, 9, 9, 4], [20, 16, 9, 4], [0, 0, 4, 6], [0, 2, 3, 4]]
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "area": 1}
        for number, box in enumerate(boxes, 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 32}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "train.json").write_text(json.dumps(content))
    before, after = fix_and_check(
        root, ["--data.format", "coco", "--data.train", "train.json"], tmp_path / "fixed"
    )
    assert sorted(before) == [
        *["box-outside", "box-over-border", "box-over-border"],
        *["box-turned-round"] * 3,
    ]
    assert after == []
    found = json.loads((root / "train.json").read_text())["annotations"]
    assert [entry["bbox"] for entry in found] == fixed
    assert [entry["area"] for entry in found] == [width * height for *_, width, height in fixed]


def test_voc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def item(left: int, right: int, name: str = "cat") -> str:
        box = f"<xmin>{left}</xmin><ymin>2</ymin><xmax>{right}</xmax><ymax>9</ymax>"
        return f"<object><name>{name}</name><pose>left</pose><bndbox>{box}</bndbox></object>"

    root = tmp_path / "set"
    images(root, "JPEGImages", "a")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("gone\na\n")
    size = "<size><width>63</width><height>40</height></size>"
    objects = (item(1, 9), item(30, 20), item(5, 5), item(60, 80), item(1, 9, "cow"))
    text = f"<annotation><folder>x</folder>{size}{''.join(objects)}</annotation>"
    (root / "Annotations/a.xml").write_text(text)
    words = ["--data.format", "voc", "--data.train", "train", "--data.names", "[cat]"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert sorted(before) == [
        "box-over-border",
        "box-turned-round",
        "box-without-area",
        "missing-image",
        "unknown-class",
        "wrong-size",
    ]
    assert after == []
    assert "Annotations/a.xml: size: 64 32\n" in capsys.readouterr().out
    expected = text.replace("<width>63</width><height>40", "<width>64</width><height>32")
    expected = expected.replace(item(30, 20), item(20, 30)).replace(item(5, 5), "")
    expected = expected.replace(item(60, 80), item(60, 64)).replace(objects[4], "")
    assert (root / "Annotations/a.xml").read_text().split("\n", 1)[1] == f"{expected}\n"


def test_voc_fractions_that_are_turned_round_become_pixels(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "JPEGImages", "a")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    boxes = ((0.25, 0.25, 0.5, 0.5), (0.5, 0.25, 0.25, 0.5))
    objects = [
        "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
        "<ymax>{}</ymax></bndbox></object>".format(*box)
        for box in (*boxes, (0, 0, 1, 1))
    ]
    (root / "Annotations/a.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    words = ["--data.format", "voc", "--data.train", "train", "--data.names", "[cat]"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert before == ["box-turned-round", "fractions-for-pixels", "repeated-box"]
    assert after == []
    text = (root / "Annotations/a.xml").read_text()
    corners = re.findall(r"<x?y?m..>([\d.]+)", text)
    assert [float(number) for number in corners] == [16, 8, 32, 16, 0, 0, 64, 32]


def test_coco_fractions_that_may_be_centres_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images(root, "images", "a")
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box}
        for number, box in enumerate(([0.5, 0.5, 0.4, 0.4], [0.8, 0.7, 0.3, 0.5]), 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 32}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "train.json").write_text(json.dumps(content))
    words = ["--data.format", "coco", "--data.train", "train.json"]
    before, after = fix_and_check(root, words, tmp_path / "fixed")
    assert before == after == ["fractions-for-pixels"]
    assert json.loads((root / "train.json").read_text()) == content

"""Some classes, one class, and a fraction of a data set."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Ten images; image i has a box of class i % 3, and image 0 one of class 1 as well."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        Image.new("RGB", (40, 20)).save(tmp_path / "images" / f"{number}.png")
        rows = f"{number % 3} 0.5 0.5 0.5 0.5\n" + "1 0.5 0.5 0.25 0.5\n" * (number == 0)
        (tmp_path / "labels" / f"{number}.txt").write_text(rows)
    names = ["cat", "dog", "1"]
    root = str(tmp_path)
    return DataConfig(format="yolo", root=root, train="images", val="images", names=names)


def ids(data: DataConfig, split: str = "train") -> list[list[int]]:
    return [record.class_ids.tolist() for record in read_split(data, split).records]


def test_classes_keep_their_order_and_the_images(data: DataConfig) -> None:
    # "1" is a name, and a name goes before a number
    chosen = replace(data, classes=("1", "0"))
    dataset = read_split(chosen, "train")
    assert dataset.class_names == ("cat", "1")
    assert dataset.category_ids == (1, 3)
    assert ids(chosen) == [[0], [], [1], [0], [], [1], [0], [], [1], [0]]
    assert ids(chosen, "val") == ids(chosen)


def test_one_class(data: DataConfig) -> None:
    dataset = read_split(replace(data, single_cls=True), "train")
    assert (dataset.class_names, dataset.category_ids) == (("object",), (1,))
    assert [record.class_ids.tolist() for record in dataset.records] == [[0, 0], *[[0]] * 9]
    chosen = replace(data, single_cls=True, classes=("dog",))
    assert ids(chosen)[:3] == [[0], [0], []]


def test_a_fraction_of_the_training_images_at_equal_distances(data: DataConfig) -> None:
    part = replace(data, fraction=0.3)
    assert [record.path.stem for record in read_split(part, "train").records] == ["0", "3", "6"]
    assert len(read_split(part, "val")) == 10
    assert len(read_split(replace(data, fraction=0.01), "train")) == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("bird",), r"data\.classes: there is no such class \(got bird, expected cat, dog, 1"),
        (("3",), r"there is no such class"),
        (("cat", "0"), r"data\.classes: names a class twice \(got 0\)"),
    ],
)
def test_wrong_classes(data: DataConfig, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_split(replace(data, classes=classes), "train")


def test_no_box_of_the_classes(data: DataConfig) -> None:
    for number in range(2, 10, 3):
        (Path(str(data.root)) / "labels" / f"{number}.txt").write_text("")
    with pytest.raises(UserError, match="holds no boxes to train on"):
        read_split(replace(data, classes=("1",)), "train")


def test_keys() -> None:
    assert load_config(None, [("data.classes", "[cat, 3]")]).data.classes == ("cat", "3")
    assert load_config(None, [("data.classes", "cat")]).data.classes == ("cat",)
    with pytest.raises(UserError, match=r"data\.fraction: out of range \(got 0"):
        load_config(None, [("data.fraction", "0")])
    with pytest.raises(UserError, match=r"data\.single_cls: is for detectors"):
        load_config(None, [("data.single_cls", "True"), ("data.format", "imagenet")])

"""data.yaml and obj.data as people have them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import load_config, merge_trees, read_tree
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from tests.support.runs import working_in


def write_image(path: Path, row: str = "1 0.5 0.5 0.5 0.5\n") -> None:
    """Write an image of 40 x 20 and its label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)
    label = Path(str(path.with_suffix(".txt")).replace("/images/", "/labels/"))
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(row)


def names_of(data: DataConfig, split: str) -> list[str]:
    return [record.path.name for record in read_split(data, split).records]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders of training images and one of validation, in the layout of Roboflow."""
    for name in ("train/images/a.png", "more/images/b.png", "valid/images/c.png"):
        write_image(tmp_path / "set" / name)
    return tmp_path / "set"


def write(path: Path, text: str) -> DataConfig:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return DataConfig(file=str(path), format="voc", names=["x"], num_classes=80)


def test_roboflow(root: Path) -> None:
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    data = write(root / "data.yaml", f"{text}nc: 2\nnames: ['no', 'dog']\nroboflow: {{x: 1}}\n")
    train = read_split(data, "train")
    assert [record.path for record in train.records] == [root / "train/images/a.png"]
    assert train.class_names == ("no", "dog")
    np.testing.assert_allclose(train.records[0].boxes_xyxy_px, [[10, 5, 30, 15]])
    assert names_of(data, "val") == ["c.png"]
    with pytest.raises(UserError, match=r"data\.test: not found \(got .*test/images"):
        read_split(data, "test")  # an export without test images, of no harm to the others


@pytest.mark.parametrize("base", ["..", "../../set", "ABSOLUTE", "/content/elsewhere"])
def test_path_and_several_folders(root: Path, base: str) -> None:
    base = base.replace("ABSOLUTE", str(root))
    folder = root if base.startswith("/content") else root / "inside"
    text = "train: [train/images, more/images]\nval: valid/images\nnames: {0: cat, 1: dog}\n"
    data = write(folder / "mine.yml", f"path: {base}\n{text}")
    assert names_of(data, "train") == ["a.png", "b.png"]
    found = located(data)
    assert (found.format, found.file, found.num_classes) == ("yolo", None, None)
    assert (found.root, found.val) == (str(root), "valid/images")


def test_absolute_paths_of_another_machine_are_found_beside_the_file(root: Path) -> None:
    path = "/content/cells-1/train/images"
    data = write(
        root / "data.yaml", f"train: {path}\nval: C:\\cells\\valid\\images\nnames: [a, dog]\n"
    )
    assert (located(data).train, located(data).val) == ("train/images", "valid/images")


def test_another_root_moves_the_splits_and_the_names(root: Path, tmp_path: Path) -> None:
    data = write(root / "data.yaml", "train: train/images\nval: [valid/images]\nnames: [a, dog]\n")
    write_image(tmp_path / "other/valid/images/d.png")
    write(tmp_path / "other/data.yaml", "names: [a, cow]\n")
    moved = replace(located(data), root=str(tmp_path / "other"))
    assert names_of(moved, "val") == ["d.png"]
    assert read_split(moved, "val").class_names == ("a", "cow")
    with pytest.raises(UserError, match=r"data\.train: not found"):
        read_split(moved, "train")


def test_lists_and_the_working_folder(root: Path, tmp_path: Path) -> None:
    (root / "train.txt").write_text("./train/images/a.png\nmore/images/b.png\n")
    write(tmp_path / "elsewhere/d.yaml", "path: set\ntrain: train.txt\nnames: [cat, dog]\n")
    with working_in(tmp_path):
        data = DataConfig(file="elsewhere/d.yaml")
        assert names_of(data, "train") == ["a.png", "b.png"]
        with pytest.raises(UserError, match=r"data\.val: missing"):
            read_split(data, "val")


@pytest.mark.parametrize("location", ["data/obj.data", "cfg/obj.data", "obj.data"])
def test_obj_data(tmp_path: Path, location: str) -> None:
    """Paths are those of the folder that darknet is started in."""
    for name in ("a", "b"):
        write_image(tmp_path / f"data/obj_train_data/{name}.png")
    (tmp_path / "data/train.txt").write_text("data/obj_train_data/a.png\n")
    (tmp_path / "data/test.txt").write_text("data/obj_train_data/b.png\n")
    (tmp_path / "data/obj.names").write_text("cat\ndog\n")
    text = "# mine\nclasses= 2\ntrain  = data/train.txt\nvalid = data/test.txt\n"
    text += "names = data/obj.names\nbackup = backup/\n"
    data = write(tmp_path / location, text)
    assert (names_of(data, "train"), names_of(data, "val")) == (["a.png"], ["b.png"])
    assert read_split(data, "train").class_names == ("cat", "dog")
    assert located(data).test is None


def test_key_points_of_the_file(root: Path) -> None:
    write_image(root / "train/images/a.png", "0 0.5 0.5 0.5 0.5 0.4 0.4 0.9 0.9\n")
    data = write(root / "pose.yaml", "train: train/images\nnames: [cat]\nkpt_shape: [2, 2]\n")
    np.testing.assert_allclose(
        read_split(data, "train").records[0].boxes_xyxy_px, [[10, 5, 30, 15]]
    )


def test_a_file_stands_in_place_of_the_recipe_and_beside_no_other_option(root: Path) -> None:
    path = root / "data.yaml"
    write(path, "train: train/images\nnames: [cat, dog]\n")
    config = load_config("yolov4/bccd.yaml", [("data.file", str(path))])
    assert located(config.data).names == path.name
    with pytest.raises(UserError, match=r"--data\.val: --data says this as well"):
        load_config(None, [("data.val", "x"), ("data.file", str(path))])
    recipe = root / "recipe.yaml"
    recipe.write_text(f"data: {{file: '{path}'}}\n")
    problem = r"--data\.root: data\.file of the recipe says this as well \(expected --data FILE\)"
    with pytest.raises(UserError, match=problem):
        load_config(recipe, [("data.root", "x")])
    with pytest.raises(UserError, match=problem):
        merge_trees(read_tree(recipe), read_tree(None, [("data.root", "x")]), "command line")

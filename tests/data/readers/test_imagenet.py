"""ImageNet's layout: folders, lists, class order, and errors that name file and line."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.images import decode_image
from mindyolo_v4.data.readers.imagenet import holds_synsets, read_imagenet
from mindyolo_v4.data.readers.mindrecord import read_class_split
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from tests.support.class_folders import SYNSETS, write_image, write_imagenet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_imagenet(tmp_path / "set", train=3, val=2)


def data(root: Path, **fields: object) -> DataConfig:
    return DataConfig(
        **({"format": "imagenet", "root": str(root), "train": "train", "val": "val"} | fields)
    )


def listed(dataset) -> list[tuple[str, int]]:
    return [
        (dataset.path(i).relative_to(dataset.folder).as_posix(), int(dataset.class_ids[i]))
        for i in range(len(dataset))
    ]


def test_classes_are_the_sorted_folders(root: Path) -> None:
    dataset = read_imagenet(data(root), "train")
    assert dataset.class_names == SYNSETS[:3]
    assert listed(dataset)[2:4] == [
        (f"{SYNSETS[0]}/{SYNSETS[0]}_2.JPEG", 0),
        (f"{SYNSETS[1]}/{SYNSETS[1]}_0.JPEG", 1),
    ]
    assert len(dataset) == 9
    assert dataset.path(0).is_file()
    assert len(read_imagenet(data(root), "val")) == 6


def test_images_of_more_than_8_bits_are_warned_of_once(root: Path) -> None:
    for number, kind in enumerate((np.uint8, np.uint16, np.uint16)):
        path = root / "train" / SYNSETS[1] / f"z{number}.png"
        Image.fromarray(np.full((9, 9), 200, kind)).save(path)
    (root / "train" / SYNSETS[1] / "z.png").write_bytes(b"no image")
    dataset = read_imagenet(data(root), "train")
    first = root / "train" / SYNSETS[1] / "z1.png"
    assert dataset.warnings == (
        f"2 images, such as {first}, have more than 8 bits per channel and are scaled by the range "
        "of their pixels",
    )
    assert read_imagenet(data(root), "val").warnings == ()


def test_names_are_given_in_the_order_of_the_classes(root: Path) -> None:
    (root / "names.txt").write_text("tench\ngoldfish\nshark\n")
    assert read_imagenet(data(root, names="names.txt"), "val").class_names == (
        "tench",
        "goldfish",
        "shark",
    )
    with pytest.raises(
        UserError, match=r"data\.names: not as many as the class folders.*got 2, expected 3"
    ):
        read_imagenet(data(root, names=["a", "b"]), "train")
    with pytest.raises(UserError, match=r"data\.num_classes"):
        read_imagenet(data(root, num_classes=4), "train")


def test_a_validation_with_fewer_folders_keeps_the_indices_of_the_names(root: Path) -> None:
    for path in (root / "val" / SYNSETS[0]).iterdir():
        path.unlink()
    (root / "val" / SYNSETS[0]).rmdir()
    for names in (None, list(SYNSETS[:3])):
        assert read_imagenet(data(root, names=names), "val").class_ids.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("prefix", ["", "train/", "./", "./train/", "ROOT/train/", "train\\"])
def test_a_training_list_decides_the_indices_of_both_splits(root: Path, prefix: str) -> None:
    order = {SYNSETS[0]: 2, SYNSETS[1]: 0, SYNSETS[2]: 1}
    prefix = prefix.replace("ROOT", str(root))
    slash = "\\" if "\\" in prefix else "/"
    lines = [
        f"{prefix}{synset}{slash}{synset}_{n}.JPEG {label}"
        for synset, label in order.items()
        for n in (1, 0)
    ]
    (root / "train_list.txt").write_text("\n".join(lines) + "\n\n")
    train = read_imagenet(data(root), "train")
    assert listed(train)[:2] == [
        (f"{SYNSETS[0]}/{SYNSETS[0]}_1.JPEG", 2),
        (f"{SYNSETS[0]}/{SYNSETS[0]}_0.JPEG", 2),
    ]
    assert train.class_names == (SYNSETS[1], SYNSETS[2], SYNSETS[0])
    assert train.source == str(root / "train_list.txt")
    assert "does not name 3 images" in train.warnings[0]
    assert read_imagenet(data(root), "val").class_ids.tolist() == [2, 2, 0, 0, 1, 1]


def test_a_flat_validation_folder_with_a_list(root: Path) -> None:
    for number in range(3):
        write_image(root / f"flat/ILSVRC2012_val_{number}.JPEG", number, number)
    (root / "flat_list.txt").write_text(
        "".join(f"flat/ILSVRC2012_val_{n}.JPEG {2 - n}\n" for n in range(3))
    )
    dataset = read_imagenet(data(root, val="flat"), "val")
    assert listed(dataset) == [(f"ILSVRC2012_val_{n}.JPEG", 2 - n) for n in range(3)]
    assert dataset.class_names == SYNSETS[:3]


def test_a_line_that_repeats_an_image_is_left_out(root: Path) -> None:
    lines = [f"flat/{name}.JPEG {label}" for name, label in (("a", 0), ("b", 1), ("a", 0))]
    for name in "ab":
        write_image(root / f"flat/{name}.JPEG", 0, 0)
    (root / "flat_list.txt").write_text("\n".join([*lines, "./a.JPEG 0"]))
    dataset = read_imagenet(data(root, val="flat"), "val")
    assert listed(dataset) == [("a.JPEG", 0), ("b.JPEG", 1)]
    listing = root / "flat_list.txt"
    repeated = "image is listed twice, first at"
    assert dataset.warnings == (
        f"{listing}:3: {repeated} {listing}:1; 2 repeated lines are left out",
    )
    listing.write_text("\n".join([*lines, "a.JPEG 1"]))
    with pytest.raises(
        UserError, match=r"flat_list\.txt:4: labels the image otherwise than line 1"
    ):
        read_imagenet(data(root, val="flat"), "val")


@pytest.mark.parametrize("prefix", ["", "train/", "CLS/train/"])
def test_splits_below_a_subfolder_have_their_lists_beside_them(tmp_path: Path, prefix: str) -> None:
    folder = write_imagenet(tmp_path / "set/CLS", train=1, val=1)
    order = (2, 0, 1)
    (folder / "train_list.txt").write_text(
        "".join(f"{prefix}{SYNSETS[k]}/{SYNSETS[k]}_0.JPEG {order[k]}\n" for k in range(3))
    )
    splits = data(tmp_path / "set", train="CLS/train", val="CLS/val")
    train = read_imagenet(splits, "train")
    assert train.source == str(folder / "train_list.txt")
    assert train.class_names == (SYNSETS[1], SYNSETS[2], SYNSETS[0])
    validation = read_imagenet(splits, "val")
    assert validation.class_names == train.class_names
    assert validation.class_ids.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("split", "line", "message"),
    [
        ("train", "{0}/{0}_0.JPEG", "not a line of an image list"),
        ("train", "{0}/{0}_0.JPEG zero", "not a line of an image list"),
        ("train", "{0}/{0}_7.JPEG 0", "image is missing"),
        ("train", "{0}/{0}_1.JPEG 1", "labels folder n00000010 otherwise than a line before"),
        ("train", "{1}/{1}_1.JPEG 0", "gives folder n00000020 the label of folder n00000010"),
        (
            "val",
            "{0}/val_00.JPEG 1",
            r"disagrees with the label of folder n00000010 \(got 1, expected 0\)",
        ),
        ("val", "{0}/val_00.JPEG 3", r"label out of range \(got 3, expected 0 to 2\)"),
        ("val", "n00000099/val_00.JPEG 2", "its folder is not among the classes"),
    ],
)
def test_a_wrong_line_is_named(root: Path, split: str, line: str, message: str) -> None:
    first = (
        f"{SYNSETS[0]}/{SYNSETS[0]}_0.JPEG 0" if split == "train" else f"{SYNSETS[0]}/val_00.JPEG 0"
    )
    (root / f"{split}_list.txt").write_text(f"{first}\n{line.format(*SYNSETS)}\n")
    with pytest.raises(UserError, match=rf"{split}_list\.txt:2: {message}"):
        read_imagenet(data(root), split)


def test_other_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.val: folder not found"):
        read_imagenet(data(root, val="nowhere"), "val")
    with pytest.raises(UserError, match=r"data\.test: not a split"):
        read_imagenet(data(root), "test")
    with pytest.raises(UserError, match=r"data\.root: folder not found"):
        read_imagenet(data(tmp_path / "nowhere"), "train")
    write_image(root / "val/n00000099/a.JPEG", 0, 0)
    with pytest.raises(
        UserError, match=r"n00000099: is a class that the training split does not have"
    ):
        read_imagenet(data(root), "val")
    (tmp_path / "empty/train").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no class folders"):
        read_imagenet(data(tmp_path / "empty"), "train")
    with pytest.raises(UserError, match=r"data\.format: is for detectors"):
        read_class_split(DataConfig(format="coco"), "train")
    with pytest.raises(UserError, match=r"data\.format: holds no boxes"):
        read_split(data(root), "train")


def test_a_folder_of_synsets_is_known(root: Path, tmp_path: Path) -> None:
    assert holds_synsets(root)
    (tmp_path / "yolo/train/images").mkdir(parents=True)
    assert not holds_synsets(tmp_path / "yolo")
    assert not holds_synsets(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGB", "JPEG")]
)
def test_what_the_real_imagenet_holds_is_decoded_as_by_pillow(mode: str, kind: str) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack(
        [np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)],
        -1,
    )
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(
        file, kind
    )  # a PNG named .JPEG is known by its content
    expected = np.asarray(Image.open(file).convert("RGB")).astype(int)
    decoded = decode_image(np.frombuffer(file.getvalue(), np.uint8), "x.JPEG")
    assert decoded.shape == (64, 64, 3)
    assert np.abs(decoded - expected).max() <= 1


def test_tiny_imagenet(data_root: Path) -> None:
    dataset = read_imagenet(data(data_root / "tinyimagenet10"), "train")
    assert (len(dataset), len(dataset.class_names)) == (5000, 10)
    assert np.bincount(dataset.class_ids).tolist() == [500] * 10
    assert len(read_imagenet(data(data_root / "tinyimagenet10"), "val")) == 500


def test_folders_that_are_no_classes(root: Path) -> None:
    for name in ("__MACOSX", ".ipynb_checkpoints", "empty"):
        (root / "train" / name).mkdir()
    write_image(root / "train/__MACOSX/x.JPEG", 0, 0)
    (root / "train" / SYNSETS[0] / "again").symlink_to("..")
    (root / "train" / SYNSETS[1] / "again").symlink_to(".")
    dataset = read_imagenet(data(root), "train")
    assert dataset.class_names == SYNSETS[:3]
    assert len(dataset) == 9  # nothing by the links

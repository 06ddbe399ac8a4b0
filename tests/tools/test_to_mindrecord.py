"""Packing: the images come back bit for bit, an interrupted command goes on, damage is found."""

import os
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.mindrecord import FileWriter

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.readers.mindrecord import read_class_split
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools import packing, to_mindrecord
from tests.support.class_folders import SYNSETS, write_image, write_imagenet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_imagenet(tmp_path / "set", train=3, val=2)


def pack(root: Path, *options: str, split: str = "train") -> int:
    output = root.parent / "packed"
    return run_command(
        to_mindrecord.main,
        ["--data_path", str(root), "--split", split, "--output", str(output), *options],
    )


def data(root: Path, **fields: object) -> DataConfig:
    packed = {"mindrecord": str(root.parent / "packed")}
    base = {"format": "imagenet", "root": str(root), "train": "train", "val": "val", "img_size": 32}
    return DataConfig(**base | packed | {"augment": AugmentConfig(flip_prob=0.5)} | fields)


def test_samples_are_those_of_the_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack(root, "--shards", "2") == 0
    assert "9 images" in capsys.readouterr().out
    plain, packed = (
        read_class_split(data(root, **fields), "train") for fields in ({"mindrecord": None}, {})
    )
    assert packed.class_names == plain.class_names == SYNSETS[:3]
    assert packed.class_ids.tolist() == plain.class_ids.tolist()
    for image in range(9):
        assert packed.encoded(image).tobytes() == plain.path(image).read_bytes()
        assert packed.path(image).name == plain.path(image).name
    for dataset_index in range(4):
        one, other = (
            ClassTrainSamples(split, data(root), 1).sample_with_notes(0, dataset_index)[0]
            for split in (plain, packed)
        )
        np.testing.assert_array_equal(one.image, other.image)


def test_mindspores_own_reader_finds_the_same(root: Path) -> None:
    assert pack(root, "--shards", "2") == 0
    files = sorted(str(path) for path in (root.parent / "packed").glob("*.mindrecord"))
    assert len(files) == 2
    rows = list(
        ds.MindDataset(files, shuffle=False).create_dict_iterator(num_epochs=1, output_numpy=True)
    )
    assert {str(row["name"]): int(row["label"]) for row in rows} == {
        f"{synset}/{synset}_{number}.JPEG": label
        for label, synset in enumerate(SYNSETS[:3])
        for number in range(3)
    }
    for row in rows:
        assert row["image"].tobytes() == (root / "train" / str(row["name"])).read_bytes()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are packed from now on."""
    names: list[str] = []

    def spying(path: str, **options: object) -> FileWriter:
        names.append(Path(path).name)
        return FileWriter(path, **options)

    monkeypatch.setattr(packing, "FileWriter", spying)
    return names


def test_a_second_command_writes_only_what_is_missing_or_damaged(
    root: Path, written: list[str]
) -> None:
    assert pack(root, "--shards", "3") == 0
    first, second, third = sorted((root.parent / "packed").glob("*.mindrecord"))
    content = bytearray(second.read_bytes())
    spot = content.find((root / "train" / SYNSETS[1] / f"{SYNSETS[1]}_0.JPEG").read_bytes())
    content[spot + 100] ^= 1
    second.write_bytes(content)
    third.unlink()
    written.clear()
    assert pack(root, "--shards", "3") == 0
    assert written == [second.name, third.name]
    packed = read_class_split(data(root), "train")
    assert [packed.encoded(i).tobytes() for i in range(9)] == [
        (root / "train" / os.fsdecode(name)).read_bytes() for name in packed.names
    ]
    assert first.stat().st_mode & 0o777 == 0o644
    write_image(root / "train" / SYNSETS[2] / "more.JPEG", 2, 99)
    written.clear()
    assert pack(root, "--shards", "3") == 0
    assert written  # other images: not what the files hold


def test_other_bytes_or_labels_of_the_same_names_are_packed_again(
    root: Path, written: list[str]
) -> None:
    assert pack(root, "--shards", "3") == 0
    write_image(root / "train" / SYNSETS[1] / f"{SYNSETS[1]}_0.JPEG", 2, 77)
    written.clear()
    assert pack(root, "--shards", "3") == 0
    assert written == ["train-00001-of-00003.mindrecord"]
    packed = read_class_split(data(root), "train")
    for image in range(9):
        assert (
            packed.encoded(image).tobytes()
            == (root / "train" / os.fsdecode(packed.names[image])).read_bytes()
        )

    lines = [f"{os.fsdecode(name)} {2 - number // 3}" for number, name in enumerate(packed.names)]
    (root / "train_list.txt").write_text("\n".join(lines) + "\n")
    written.clear()
    assert pack(root, "--shards", "3") == 0
    # the class in the middle has the label that it had
    assert written == ["train-00000-of-00003.mindrecord", "train-00002-of-00003.mindrecord"]


def test_a_split_that_is_not_packed_is_read_from_its_files(root: Path) -> None:
    assert pack(root) == 0
    assert read_class_split(data(root), "val").shards is None
    assert pack(root, split="val") == 0
    validation = read_class_split(data(root, names=["x", "y", "z"]), "val")
    assert (len(validation), validation.class_names) == (6, ("x", "y", "z"))
    assert validation.shards is not None


def test_errors(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"data\.mindrecord: holds no packed split"):
        read_class_split(data(root), "train")
    assert pack(root, "--shards", "10") == 2
    assert "--shards: out of range (got 10, expected >= 1 and <= 9)" in capfd.readouterr().err
    assert run_command(to_mindrecord.main, ["--data_path", str(root)]) == 2
    assert "--output: missing" in capfd.readouterr().err
    assert pack(root) == 0
    with pytest.raises(UserError, match=r"data\.names: in another order"):
        read_class_split(data(root, names=list(SYNSETS[2::-1])), "train")
    with pytest.raises(UserError, match=r"data\.names: not as many"):
        read_class_split(data(root, names=["a"]), "train")
    next((root.parent / "packed").glob("*.mindrecord")).write_bytes(b"cut")
    with pytest.raises(
        UserError,
        match=r"mindrecord: is missing or not the file that was packed \(got 3, expected \d+ b",
    ):
        read_class_split(data(root), "train")
    index = root.parent / "packed/train.index.npz"
    index.write_bytes(index.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"train\.index\.npz: is not an index of packed images"):
        read_class_split(data(root), "train")

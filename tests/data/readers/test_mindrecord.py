"""Packed splits of a detector: what the index says, damage, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.images import ImageReadError, decode_image
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.readers.mindrecord import read_class_split
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from mindyolo_v4.tools import check_data
from tests.support.packed import write_packed
from tests.support.runs import command


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


IMAGES = {"a.jpg": jpeg(1), "b.jpg": jpeg(2), "c.jpg": jpeg(3)}


def data(folder: Path, **fields: object) -> DataConfig:
    return DataConfig(**{"format": "mindrecord", "root": str(folder), "train": "train"} | fields)


def test_records_and_bytes(tmp_path: Path) -> None:
    shard = write_packed(tmp_path, IMAGES)
    dataset = read_split(data(tmp_path), "train")
    assert (dataset.class_names, dataset.category_ids) == (("cat", "dog"), (3, 7))
    assert [record.image_id for record in dataset.records] == [5, 6, 7]
    record = dataset.records[1]
    assert (record.path, record.width, record.height) == (shard / "b.jpg", 64, 64)
    np.testing.assert_array_equal(record.boxes_xyxy_px, [[1, 2, 30, 40]])
    assert record.class_ids.tolist() == [1]
    assert dataset.records.encoded(2).tobytes() == IMAGES["c.jpg"]
    np.testing.assert_array_equal(decode_image(record.encoded(), record.path), cv2.imdecode(
        np.frombuffer(IMAGES["b.jpg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1])  # fmt: skip


def test_a_part_of_a_packed_split(tmp_path: Path) -> None:
    write_packed(tmp_path, IMAGES)
    dataset = read_split(data(tmp_path, classes=("dog",), fraction=0.7), "train")
    assert [record.path.name for record in dataset.records] == ["a.jpg", "b.jpg"]
    assert [len(dataset), *dataset.category_ids] == [2, 7]
    assert dataset.records.objects()[1].tolist() == [0, 0]
    assert dataset.records.encoded(1).tobytes() == IMAGES["b.jpg"]
    names = data(tmp_path, names=["x", "y"])
    assert read_split(names, "train").class_names == ("x", "y")


def test_a_damaged_image_is_never_used_and_check_data_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = write_packed(tmp_path, IMAGES)
    words = ["--data.format", "mindrecord", "--data_dir", tmp_path, "--data.train", "train"]
    assert command(check_data.main, *words) == 0
    capsys.readouterr()
    content = bytearray(shard.read_bytes())
    content[len(IMAGES["a.jpg"]) + 1000] ^= 1  # a pixel of b.jpg; it is decoded all the same
    assert decode_image(np.frombuffer(content, np.uint8)[len(IMAGES["a.jpg"]) :], "b").shape
    shard.write_bytes(content)

    dataset = read_split(data(tmp_path), "train")
    with pytest.raises(ImageReadError, match=r"b\.jpg: is not in .* as it was packed"):
        dataset.records[1].encoded()
    plain = AugmentConfig(mosaic="none")
    samples = TrainSamples(dataset, data(tmp_path, img_size=64, augment=plain), 0, 1)
    unreadable = [samples.sample_with_notes(0, index)[1].unreadable for index in range(3)]
    assert sorted(unreadable) == [(), (), (1,)]
    assert command(check_data.main, *words) == 1
    out = capsys.readouterr().out
    assert f"damaged-image  {shard}/b.jpg: is not in" in out
    assert "a.jpg: " not in out


def test_errors(tmp_path: Path) -> None:
    shard = write_packed(tmp_path, IMAGES)
    missing = f"not found: there is no {tmp_path}/val.index.npz"
    for split, message in ((["train"], "not a split of data.format mindrecord"), ("val", missing)):
        with pytest.raises(UserError, match=rf"data\.train: {message}"):
            read_split(data(tmp_path, train=split), "train")
    with pytest.raises(UserError, match=r"data\.names: in another order"):
        read_split(data(tmp_path, names=["dog", "cat"]), "train")
    with pytest.raises(UserError, match=r"data\.num_classes: disagrees"):
        read_split(data(tmp_path, num_classes=3), "train")
    with pytest.raises(UserError, match=r"data\.format: is for detectors \(got mindrecord"):
        read_class_split(data(tmp_path), "train")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"mindrecord: is missing or not the file that was packed"):
        read_split(data(tmp_path), "train")
    write_packed(tmp_path, IMAGES, box_crowd=None)
    with pytest.raises(UserError, match=r"train\.index\.npz: is of another .*\(got no box_crowd"):
        read_split(data(tmp_path), "train")


def test_an_index_with_changed_bytes_is_refused_or_as_before(tmp_path: Path) -> None:
    write_packed(tmp_path, IMAGES)
    index = tmp_path / "train.index.npz"
    whole = index.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        index.write_bytes(changed)
        try:
            records = read_split(data(tmp_path), "train").records
            assert [records.encoded(n).tobytes() for n in range(3)] == list(IMAGES.values())
        except UserError:
            refused += 1
    assert refused > 50

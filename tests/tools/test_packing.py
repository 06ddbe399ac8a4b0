"""Packing a detector's split: MindSpore's own reader finds the same, also in a moved folder."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.data.writers import NamedImage, SplitContent
from mindyolo_v4.errors import UserError
from mindyolo_v4.tools import packing
from mindyolo_v4.tools.packing import pack_detector


def image(path: Path, content: bytes, image_id: int | str, boxes: int) -> NamedImage:
    path.write_bytes(content)
    record = ImageRecord(
        path=path,
        width=50,
        height=40,
        boxes_xyxy_px=np.arange(4 * boxes, dtype=np.float32).reshape(-1, 4) / 3,
        class_ids=np.arange(boxes, dtype=np.int64) % 2,
        ignore=np.arange(boxes) > 0,
        crowd=np.arange(boxes) > 1,
        areas_px=np.arange(boxes) / 7,
        image_id=image_id,
        label_path="",
    )
    return NamedImage(record, path.name)


@pytest.fixture
def content(tmp_path: Path) -> SplitContent:
    images = [
        image(tmp_path / "一.png", bytes(range(256)), 2**40, 3),
        image(tmp_path / "b \udce9.jpg", b"no boxes", 'of "text" \udce9', 0),
        image(tmp_path / "c.jpg", b"the same", 1, 1),
        image(tmp_path / "d.jpg", b"the same", 0, 1),
    ]
    return SplitContent(images, ("猫", "dog"), (9, 4))


def test_records_come_back_and_minddataset_reads_them(
    content: SplitContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "IMAGES_PER_SHARD", 3)
    pack_detector(tmp_path / "旧", "val", content)
    folder = (tmp_path / "旧").rename(tmp_path / "新")
    shards = [folder / f"val-0000{n}-of-00002.mindrecord" for n in (0, 1)]
    others = {folder / "val.index.npz", *(path.with_name(f"{path.name}.db") for path in shards)}
    assert set(folder.iterdir()) == {*shards, *others}

    dataset = read_split(DataConfig(format="mindrecord", root=str(folder), val="val"), "val")
    assert (dataset.class_names, dataset.category_ids) == (("猫", "dog"), (9, 4))
    rows = ds.MindDataset([str(path) for path in shards], shuffle=False)
    rows = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    for before, record, row in zip(content.images, dataset.records, rows, strict=True):
        expected = before.record
        assert record.path.name == before.name
        assert record.encoded().tobytes() == row["image"].tobytes() == expected.path.read_bytes()
        assert (record.width, record.height) == (int(row["width"]), int(row["height"])) == (50, 40)
        assert record.image_id == json.loads(str(row["image_id"])) == expected.image_id
        boxes = json.loads(str(row["boxes"]))
        for field, key in (
            ("boxes_xyxy_px", "box_xyxy_px"),
            ("class_ids", "box_class_id"),
            ("ignore", "box_ignore"),
            ("crowd", "box_crowd"),
            ("areas_px", "box_area_px"),
        ):
            after = vars(record)[field]
            np.testing.assert_array_equal(after, vars(expected)[field])
            assert after.dtype == vars(expected)[field].dtype
            assert [box[key] for box in boxes] == after.tolist()


def test_images_larger_than_a_page_of_mindrecord(tmp_path: Path) -> None:
    encoded = np.random.default_rng(0).bytes(2**25)
    large = image(tmp_path / "large.png", encoded, 1, 1)
    pack_detector(tmp_path / "packed", "train", SplitContent([large], ("a", "b"), (1, 2)))
    data = DataConfig(format="mindrecord", root=str(tmp_path / "packed"), train="train")
    assert read_split(data, "train").records.encoded(0).tobytes() == encoded


def test_what_cannot_be_read_or_written_is_said_in_one_line(
    content: SplitContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_PAGE_BYTES", (256, 512))
    with pytest.raises(UserError, match=r"一\.png: has more bytes than a MindRecord file takes"):
        pack_detector(tmp_path / "packed", "val", content)
    monkeypatch.undo()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(UserError, match=r"00001\.mindrecord: cannot be written: \S"):
            pack_detector(tmp_path / "packed", "val", content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(UserError, match=r"categories: an id has more than 64 bits \(got 10000"):
        pack_detector(tmp_path / "packed", "val", replace(content, category_ids=(1, 10**30)))
    content.images[2].record.path.unlink()
    with pytest.raises(UserError, match=r"c\.jpg: is missing"):
        pack_detector(tmp_path / "packed", "val", content)

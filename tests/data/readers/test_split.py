"""What a split of any format must hold."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError


def test_crowd_boxes_are_neither_trained_nor_scored(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10], "area": 100}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [box | {"iscrowd": 1}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    split = {"annotations": "a.json", "images": "."}
    data = DataConfig(root=str(tmp_path), train=split, val=split)
    with pytest.raises(UserError, match="holds no boxes to train on"):
        read_split(data, "train")
    (warning,) = read_split(data, "val").warnings
    assert warning.endswith("holds no boxes, its AP is undefined")

"""The command: what it prints, and what it writes for a recipe."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.data.anchor_fit import fit_anchors
from mindyolo_v4.errors import UserError
from mindyolo_v4.tools.fit_anchors import main


@pytest.fixture(autouse=True)
def few_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_anchors, "__defaults__", (30,))


def command(data_root: Path, *more: str) -> list[str]:
    data = ("--data.format", "voc", "--data.train", "train", "--data_dir", str(data_root / "bccd"))
    return [*data, "--img_size", "416", *more]


def test_prints_and_writes_anchors_for_a_recipe(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fit"
    assert main(command(data_root, "--clusters", "6", "--save_dir", str(folder))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2804 boxes of data.train, letterbox to 416 px"
    present, fitted = (float(line.split()[4].rstrip(",")) for line in lines[1:3])
    assert fitted > present + 0.1

    (tmp_path / "mine.yaml").write_text("__BASE__: fit/anchors.yaml\n")
    model = load_config(tmp_path / "mine.yaml").model
    anchors = np.array(model.anchors_wh_px)
    assert anchors.shape == (6, 2) and (np.diff(anchors.prod(axis=1)) >= 0).all()
    assert model.anchor_masks == ((0, 1), (2, 3), (4, 5))
    assert lines[3] == "fitted at the levels of strides [8, 16, 32]"
    assert lines[4] in (folder / "anchors.yaml").read_text()
    assert cv2.imread(str(folder / "anchors.png")).shape[0] > 300
    with pytest.raises(UserError, match=r"--clusters: out of range .got 2, expected 3, the numb"):
        main(command(data_root, "--clusters", "2"))


def test_the_networks_own_count_and_masks(
    data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that says `auto` is compared with the architecture's anchors."""
    more = ("--model.anchors_wh_px", "auto", "--model.architecture", "yolov4-tiny")
    assert main(command(data_root, *more)) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("model: {anchors_wh_px: [[1, 1], [") and line.endswith("]]}")
    assert line.count("[") == 7


def test_boxes_that_were_annotated_without_exif_orientation_are_turned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decoder turns the image by a quarter, and boxes that lie in the file then stand."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 32)).save(tmp_path / "a.png", exif=exif)
    boxes = ([2, 2, 20, 5], [2, 9, 24, 6])
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 32}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": box}
            for number, box in enumerate(boxes, 1)
        ],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    words = ["--data_dir", str(tmp_path), "--data.train", "train.json", "--img_size", "64"]
    model = ["--model.architecture", "yolov4-tiny", "--clusters", "2"]
    assert main(["--data.format", "coco", *words, *model]) == 0
    width, height = re.findall(r"[\d.]+", capsys.readouterr().out.splitlines()[-1])[:2]
    assert float(width) * 3 < float(height)

"""One data set in every format: equal records, batches and AP; and there and back."""

import json
import os
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.readers.data_file import located
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.tools import convert_data
from tests.inputs.images import png
from tests.support.runs import command
from tests.support.scores import metrics_of

COCO128 = ("--data.format", "coco", "--data.train", "annotations/instances_train2017.json")


def convert(source: list[str], form: str, output: Path, *more: str) -> DataConfig:
    """Convert a data set; return how the new one is read, by the options that are printed."""
    words = [*source, "--to", form, "--output", str(output), *more]
    assert command(convert_data.main, *words) == 0
    return data_of(options(form, output, "train"))


def options(form: str, folder: Path, *splits: str) -> list[str]:
    return shlex.split(convert_data.options_of(form, folder, splits))


def data_of(words: list[str]) -> DataConfig:
    keys = {"--data": "data.file", "--data_dir": "data.root"}
    pairs = zip(words[::2], words[1::2], strict=True)
    return load_config(None, [(keys.get(key, key[2:]), value) for key, value in pairs]).data


def assert_equal(one: Dataset, other: Dataset) -> None:
    assert one.class_names == other.class_names
    assert len(one) == len(other) > 0
    for left, right in zip(one.records, other.records, strict=True):
        assert (left.path.name, left.width, left.height) == (
            right.path.name,
            right.width,
            right.height,
        )
        for name in ("boxes_xyxy_px", "class_ids", "ignore", "crowd", "areas_px"):
            first, second = getattr(left, name), getattr(right, name)
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype


@pytest.fixture(scope="module")
def forms(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataConfig]:
    """coco128 in all forms, each converted from the one before; the first is the shared one."""
    folder = tmp_path_factory.mktemp("forms")
    source = [*COCO128, "--data_dir", str(data_root / "coco128")]
    yolo = convert(source, "yolo", folder / "yolo", "--link")
    coco = convert(options("yolo", folder / "yolo", "train"), "coco", folder / "coco", "--link")
    voc = convert(options("coco", folder / "coco", "train"), "voc", folder / "voc", "--link")
    packed = convert(options("voc", folder / "voc", "train"), "mindrecord", folder / "packed")
    convert(options("mindrecord", folder / "packed", "train"), "yolo", folder / "back")
    return {
        "data.yaml": yolo,
        "obj.data": replace(yolo, file=str(folder / "yolo/obj.data")),
        "txt": DataConfig(format="yolo", root=str(folder / "yolo"), train="train.txt"),
        "coco": coco,
        "voc": voc,
        "mindrecord": packed,
        "back": DataConfig(file=str(folder / "back/data.yaml")),
    }


def test_records_are_equal(forms: dict[str, DataConfig], data_root: Path) -> None:
    datasets = [read_split(data, "train") for data in forms.values()]
    for one, other in pairwise(datasets):
        assert_equal(one, other)

    # and those of the file of COCO, but for its crowd boxes and the areas of its masks
    source = data_of([*COCO128, "--data_dir", str(data_root / "coco128")])
    original = read_split(source, "train")
    assert original.class_names == datasets[0].class_names
    for left, right in zip(original.records, datasets[0].records, strict=True):
        np.testing.assert_array_equal(left.boxes_xyxy_px[~left.ignore], right.boxes_xyxy_px)
        np.testing.assert_array_equal(left.class_ids[~left.ignore], right.class_ids)


def test_label_files_are_equal_there_and_back(forms: dict[str, DataConfig]) -> None:
    there = Path(str(forms["txt"].root))
    back = there.parent / "back"
    labels = sorted((there / "labels/train").iterdir())
    assert len(labels) == 128
    for label in labels:
        first, second = (
            np.array(file.read_text().split(), float)
            for file in (label, back / "labels/train" / label.name)
        )
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-15)
    for name in ("train.txt", "data.yaml", "obj.data", "obj.names"):
        assert (there / name).read_text() == (back / name).read_text()


@pytest.mark.slow
def test_samples_and_ap_are_equal(forms: dict[str, DataConfig]) -> None:
    strengths = AugmentConfig(mosaic_prob=0.5, scale=0.5, flip_prob=0.5, mixup_prob=0.3)
    changed = {"img_size": 64, "augment": strengths}
    samples, scores = [], []
    for data in forms.values():
        dataset = read_split(data, "train")
        train = TrainSamples(dataset, replace(data, **changed), seed=3, epochs=1)
        samples.append([train.sample_with_notes(0, index)[0] for index in range(4)])

        evaluator = CocoEvaluator(dataset)
        rng = np.random.default_rng(5)
        for number, record in enumerate(dataset.records):
            boxes = record.boxes_xyxy_px + rng.normal(0, 4, record.boxes_xyxy_px.shape)
            confidences = rng.random(len(boxes)).astype(np.float32)
            found = Detections(boxes.astype(np.float32), confidences, record.class_ids)
            evaluator.add(number, found)
        scores.append({name: metrics_of(evaluator, "pycocotools")[name] for name in ("AP", "AP50")})

    assert 0.1 < scores[0]["AP"] < 0.95
    assert all(score == scores[0] for score in scores)
    for others in samples[1:]:
        for one, other in zip(samples[0], others, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.boxes_xyxy_px, other.boxes_xyxy_px)
            np.testing.assert_array_equal(one.class_ids, other.class_ids)


def test_what_a_format_cannot_hold_is_counted(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [*COCO128, "--data_dir", str(data_root / "coco128")]
    convert(source, "yolo", tmp_path / "yolo", "--link")
    out = capsys.readouterr().out
    # 929 boxes and 10 crowd boxes, as the README of the data says
    assert "train: 128 images, 929 boxes, equal when read back" in out
    assert "10 crowd or difficult boxes are left out" in out
    assert f"to use it: --data {tmp_path / 'yolo/data.yaml'}" in out
    coco = convert(source, "coco", tmp_path / "coco", "--link")
    assert_equal(read_split(coco, "train"), read_split(data_of(source), "train"))
    voc = convert(source, "voc", tmp_path / "voc", "--link")
    assert "10 crowd boxes become difficult ones" in capsys.readouterr().out
    assert sum(int(one.ignore.sum()) for one in read_split(voc, "train").records) == 10


def test_rounding_residue_at_the_edges_is_left_out_of_fractions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(png(30, 20))
    boxes = [[2.8e-14, 1e-7, 10, 8], [3, 1e-7, 27 - 1e-6, 9], [4, 1e-4, 9, 3], [1, 2, 3, 4]]
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box}
        for number, box in enumerate(boxes, 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    words = ["--data.format", "coco", "--data_dir", str(tmp_path), "--data.train", "a.json"]
    data = convert(words, "yolo", tmp_path / "new")
    read = read_split(located(data), "train").records[0].boxes_xyxy_px
    expected = [[0, 0, 10, 8], [3, 0, 30, 9], [4, 1e-4, 13, 3.0001], [1, 2, 4, 6]]
    np.testing.assert_array_equal(read, np.array(expected, np.float32))
    assert "areas" not in capsys.readouterr().out


def test_mindrecord_files_hold_all_of_a_coco_file(data_root: Path, tmp_path: Path) -> None:
    source = [*COCO128, "--data_dir", str(data_root / "coco128")]
    packed = convert(source, "mindrecord", tmp_path / "packed")
    original = read_split(data_of(source), "train")
    dataset = read_split(packed, "train")
    assert_equal(dataset, original)
    assert dataset.category_ids == original.category_ids
    assert sum(int(record.crowd.sum()) for record in dataset.records) == 10
    for left, right in zip(dataset.records, original.records, strict=True):
        assert left.image_id == right.image_id
        assert left.encoded().tobytes() == right.path.read_bytes()

    # and there and back the same file as without the way through MindRecord
    convert(options("mindrecord", tmp_path / "packed", "train"), "coco", tmp_path / "back")
    convert(source, "coco", tmp_path / "coco", "--link")
    name = "annotations/instances_train.json"
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "coco" / name).read_bytes()
    images = {path.name: path.read_bytes() for path in (tmp_path / "back/images/train").iterdir()}
    assert images == {record.path.name: record.path.read_bytes() for record in original.records}


def test_a_random_split_has_every_image_once(data_root: Path, tmp_path: Path) -> None:
    splits = ["--data.train", "train", "--data.val", "val", "--data.test", "test"]
    source = ["--data.format", "voc", "--data_dir", str(data_root / "bccd"), *splits]
    stems: list[list[set[str]]] = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        more = ["--shares", "8,1,1", "--seed", seed, "--link"]
        assert convert(source, "coco", tmp_path / name, *more).format == "coco"
        files = [tmp_path / name / f"annotations/instances_{split}.json"
                 for split in ("train", "val", "test")]  # fmt: skip
        contents = [json.loads(file.read_text()) for file in files]
        assert [len(content["images"]) for content in contents] == [291, 37, 36]
        stems.append([{image["file_name"] for image in one["images"]} for one in contents])
        ids = [[image["id"] for image in content["images"]] for content in contents]
        assert all(len(set(one)) == len(one) for one in ids)  # those of the sources overlap
    assert len(set.union(*stems[0])) == 364
    assert stems[0] == stems[1] != stems[2]


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_printed_options_can_be_pasted_into_a_shell(form: str) -> None:
    folder = Path("/my sets/a $HOME's")
    words = options(form, folder, "train")
    assert words[1 if form == "yolo" else 3] == str(
        folder / ("data.yaml" if form == "yolo" else "")
    )


def test_images_are_copied_and_names_differ(tmp_path: Path) -> None:
    """Two images of one name in two folders, and a line twice."""
    from tests.data.readers.test_data_file import write_image

    for name in ("x/images/a.png", "y/images/a.png"):
        write_image(tmp_path / "set" / name)
    (tmp_path / "set/t.txt").write_text("x/images/a.png\ny/images/a.png\nx/images/a.png\n")
    words = ["--data.format", "yolo", "--data_dir", str(tmp_path / "set"), "--data.names", "[c,d]"]
    data = convert([*words, "--data.train", "t.txt"], "voc", tmp_path / "new")
    records = read_split(data, "train").records
    assert [record.path.name for record in records] == ["a.png", "a_2.png"]
    assert not records[0].path.is_symlink()
    original = (tmp_path / "set/x/images/a.png").read_bytes()
    assert records[0].path.read_bytes() == original


def test_a_test_split_that_an_export_lacks_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/images/a.png").write_bytes(png(32, 32))
    (tmp_path / "train/images/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    text = "train: ../train/images\nval: ../train/images\ntest: ../test/images\nnames: [car]\n"
    (tmp_path / "data.yaml").write_text(text)
    convert(["--data", str(tmp_path / "data.yaml")], "coco", tmp_path / "coco")
    assert (tmp_path / "coco/annotations/instances_val.json").is_file()
    assert not (tmp_path / "coco/annotations/instances_test.json").exists()
    assert "data.test: not found" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["yolo", "coco", "voc"])
def test_names_that_are_not_utf8_become_so(form: str, tmp_path: Path) -> None:
    from tests.data.readers.test_data_file import write_image

    for name in (b"\xe9.png", b"_.png"):
        write_image(tmp_path / "set/images" / os.fsdecode(name))
    words = ["--data.format", "yolo", "--data_dir", str(tmp_path / "set"), "--data.names", "[c,d]"]
    data = convert([*words, "--data.train", "images"], form, tmp_path / "new")
    names = {record.path.name for record in read_split(data, "train").records}
    assert names == {"_.png", "__2.png"}


def test_the_working_folder_can_be_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.data.readers.test_data_file import write_image

    write_image(tmp_path / "set/images/a.png")
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    words = ["--data.format", "yolo", "--data_dir", str(tmp_path / "set"), "--data.names", "[c,d]"]
    data = convert([*words, "--data.train", "images"], "coco", Path())
    assert [record.path.name for record in read_split(data, "train").records] == ["a.png"]


def test_nothing_is_left_of_a_conversion_that_fails(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr(convert_data, "_is_equal", lambda image, record: False)
    source = [*COCO128, "--data_dir", str(data_root / "coco128")]
    words = [*source, "--to", "yolo", "--link", "--output", tmp_path / "new/set"]
    assert command(convert_data.main, *words) == 2
    assert "does not hold the boxes of" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("form", ["yolo", "voc"])
@pytest.mark.parametrize("name", ["car ", "car\ntruck", "car\n"])
def test_names_that_the_format_cannot_hold_are_no_others(
    tmp_path: Path, form: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.data.readers.test_data_file import write_image

    write_image(tmp_path / "set/images/a.png", "0 0.5 0.5 0.5 0.5\n")
    described = {"train": "images", "names": [name]}
    (tmp_path / "set/data.yaml").write_text(json.dumps(described))
    words = ["--data", str(tmp_path / "set/data.yaml"), "--to", form]
    assert command(convert_data.main, *words, "--output", str(tmp_path / "new")) == 2
    message = "cannot hold a class name with outer spaces or line breaks (got car"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_spaces_around_the_name_of_a_category_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(30, 20))
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10]}],
        "categories": [{"id": 1, "name": "cat\n"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    words = ["--data.format", "coco", "--data_dir", str(tmp_path), "--data.train", "a.json"]
    data = convert(words, "yolo", tmp_path / "new")
    assert read_split(located(data), "train").class_names == ("cat",)
    assert (tmp_path / "new/obj.names").read_text() == "cat\n"


def test_images_above_the_usual_limit_are_read_back(tmp_path: Path) -> None:
    """20,000 x 20,000 pixels are 400 megapixels, and 256 is the default of the limit."""
    folder = tmp_path / "large"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.png").write_bytes(png(20_000, 20_000))
    (folder / "images/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    source = ["--data.format", "yolo", "--data_dir", str(folder), "--data.train", "images"]
    limit = ["--data.names", "[cat]", "--data.max_megapixels", "500"]
    for form in ("yolo", "coco"):
        data = convert([*source, *limit], form, tmp_path / form)
        assert len(read_split(replace(data, max_megapixels=500), "train")) == 1

"""Generated scenes: boxes against drawn pixels, classes against drawn shapes, files, errors."""

import json

import cv2
import numpy as np
import pytest

from mindyolo_v4.boxes import pairwise_iou
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools import make_scenes
from mindyolo_v4.tools.make_scenes import CLASS_NAMES, SceneSet, draw_scene, main, write_scenes
from mindyolo_v4.tools.scene_paint import pick_color

SIZE = 320


@pytest.fixture
def bare_scenes(monkeypatch):
    """Scenes of white shapes on black and nothing else: the picture is the mask."""
    monkeypatch.setattr(
        make_scenes, "draw_background", lambda rng, size: np.zeros((size, size, 3), np.uint8)
    )
    monkeypatch.setattr(make_scenes, "draw_distractors", lambda rng, image: None)
    monkeypatch.setattr(make_scenes, "add_noise", lambda rng, image: image)
    monkeypatch.setattr(make_scenes, "pick_color", lambda rng, under: np.full(3, 255.0))
    monkeypatch.setattr(
        make_scenes,
        "shade",
        lambda rng, color, coverage: np.full((*coverage.shape, 3), 255, np.float32),
    )
    return [draw_scene(np.random.default_rng(seed), SIZE) for seed in range(40)]


def lonely_objects(scenes, margin=3):
    """Yield (mask with a margin, box, class id) of the objects that touch no other."""
    for image, boxes, class_ids in scenes:
        wide = boxes + np.array([-margin, -margin, margin, margin], np.float32)
        alone = (pairwise_iou(wide, wide) > 0).sum(axis=1) == 1
        padded = np.pad(image[:, :, 0], margin)
        for box, class_id in zip(boxes[alone].astype(int), class_ids[alone], strict=True):
            left, top, right, bottom = box
            yield padded[top : bottom + 2 * margin, left : right + 2 * margin], box, int(class_id)


def test_boxes_are_the_extents_of_the_drawn_pixels(bare_scenes):
    count = 0
    for mask, box, _ in lonely_objects(bare_scenes):
        rows, columns = np.nonzero(mask > 100)
        extents = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - 3
        np.testing.assert_allclose(extents, box - np.tile(box[:2], 2), atol=1)
        count += 1
    assert count > 60


def test_a_class_is_its_shape(bare_scenes):
    seen = set()
    for mask, box, class_id in lonely_objects(bare_scenes):
        if min(box[2:] - box[:2]) < 50:
            continue
        (outline,), _ = cv2.findContours(
            (mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        corners = len(cv2.approxPolyDP(outline, 0.02 * cv2.arcLength(outline, True), True))
        solid = cv2.contourArea(outline) / cv2.contourArea(cv2.convexHull(outline)) > 0.9
        name = {(3, True): "triangle", (4, True): "square", (10, False): "star"}.get(
            (corners, solid), "circle"
        )
        assert name == CLASS_NAMES[class_id]
        seen.add(name)
    assert seen == set(CLASS_NAMES)


def test_counts_sizes_and_overlaps():
    counts, sides, every_class = [], [], []
    for seed in range(40):
        image, boxes, class_ids = draw_scene(np.random.default_rng(seed), SIZE)
        assert image.shape == (SIZE, SIZE, 3)
        assert [image.dtype, boxes.dtype, class_ids.dtype] == [np.uint8, np.float32, np.int64]
        assert boxes.min() >= 0
        assert boxes.max() <= SIZE
        overlap = pairwise_iou(boxes, boxes)
        assert (overlap - np.eye(len(boxes))).max() <= 0.5
        counts.append(len(boxes))
        sides.append(boxes[:, 2:] - boxes[:, :2])
        every_class.append(class_ids)
    assert min(counts) == 3
    assert max(counts) == 12
    assert np.concatenate(sides).min() >= 12
    assert 100 < np.concatenate(sides).max() <= 120
    assert set(np.concatenate(every_class).tolist()) == {0, 1, 2, 3}


def test_no_object_is_hidden():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scene = make_scenes._Scene(np.zeros((128, 128, 3), np.uint8))
        for side in np.linspace(48, 12, 30):
            make_scenes._place(rng, scene, float(side), 48)
        shown = np.bincount(scene.owner.ravel(), minlength=len(scene.boxes) + 1)[1:]
        assert shown.tolist() == scene.visible_px.tolist()
        assert (shown / scene.drawn_px).min() >= 0.6
        assert len(scene.boxes) > 5


def test_a_scene_is_a_function_of_its_generator():
    first, again, other = (draw_scene(np.random.default_rng(seed), 160) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first[0] != other[0]).any()


def test_colours_stand_out(rng):
    under = np.array([127.0, 127, 127])
    distances = [np.linalg.norm(pick_color(rng, under) - under) for _ in range(200)]
    assert min(distances) >= 70


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files(tmp_path):
    output = tmp_path / "deep" / "scenes"
    assert write_scenes(output, SceneSet(train=3, val=2, img_size=128, seed=5))
    files = files_of(output)
    splits = {"train": 3, "val": 2}
    stems = [f"{split}/{number:05d}" for split, count in splits.items() for number in range(count)]
    pairs = {f"images/{stem}.jpg" for stem in stems} | {f"labels/{stem}.txt" for stem in stems}
    assert set(files) == pairs | {"classes.txt", "scenes.json"}
    assert files["classes.txt"].decode().split() == list(CLASS_NAMES)
    assert files["images/train/00000.jpg"] != files["images/val/00000.jpg"]
    image, boxes, class_ids = draw_scene(np.random.default_rng((5, 1, 0)), 128)
    stored = cv2.imread(str(output / "images/val/00000.jpg"))[:, :, ::-1].astype(float)
    assert np.abs(stored - image).mean() < 8
    rows = np.array(
        [line.split() for line in files["labels/val/00000.txt"].decode().splitlines()], float
    )
    assert rows[:, 0].tolist() == class_ids.tolist()
    np.testing.assert_allclose((rows[:, 1:3] - rows[:, 3:] / 2) * 128, boxes[:, :2], atol=1e-3)
    np.testing.assert_allclose((rows[:, 1:3] + rows[:, 3:] / 2) * 128, boxes[:, 2:], atol=1e-3)
    assert [path.name for path in output.parent.iterdir()] == ["scenes"]


def test_several_processes_draw_the_same_pictures(tmp_path):
    """Of 17 pictures the first 16 are drawn by one process."""
    for name, count in (("here", 2), ("there", 17)):
        write_scenes(tmp_path / name, SceneSet(train=count, val=1, img_size=128, seed=5))
    here, there = (files_of(tmp_path / name) for name in ("here", "there"))
    for name, content in here.items() - {("scenes.json", here["scenes.json"])}:
        assert there[name] == content, name
    assert len([name for name in there if name.startswith("images/train")]) == 17


def test_the_reader_takes_it(tmp_path):
    write_scenes(tmp_path / "a", SceneSet(train=2, val=1, img_size=128, seed=5))
    data = DataConfig(
        format="yolo",
        root=str(tmp_path / "a"),
        train="images/train",
        val="images/val",
        names="classes.txt",
    )
    dataset = read_split(data, "train")
    assert dataset.class_names == CLASS_NAMES
    assert dataset.warnings == ()
    for index, record in enumerate(dataset.records):
        _, boxes, class_ids = draw_scene(np.random.default_rng((5, 0, index)), 128)
        np.testing.assert_allclose(record.boxes_xyxy_px, boxes, atol=1e-3)
        np.testing.assert_array_equal(record.class_ids, class_ids)


def test_same_seed_same_files_and_reuse(tmp_path, capsys):
    arguments = ["--train", "2", "--val", "1", "--img_size", "128"]
    assert main(["--output", str(tmp_path / "a"), *arguments]) == 0
    (tmp_path / "b").mkdir()
    assert main(["--output", str(tmp_path / "b"), *arguments]) == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert main(["--output", str(tmp_path / "c"), *arguments, "--seed", "1"]) == 0
    assert (
        files_of(tmp_path / "a")["images/train/00000.jpg"]
        != files_of(tmp_path / "c")["images/train/00000.jpg"]
    )
    capsys.readouterr()
    assert main(["--output", str(tmp_path / "a"), *arguments]) == 0
    assert "already in" in capsys.readouterr().out
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_another_or_damaged_set_is_refused(tmp_path):
    scenes = SceneSet(train=1, val=1, img_size=128, seed=0)
    write_scenes(tmp_path / "a", scenes)
    with pytest.raises(UserError, match="another scene set"):
        write_scenes(tmp_path / "a", SceneSet(train=1, val=1, img_size=128, seed=1))
    (tmp_path / "a/labels/val/00000.txt").unlink()
    with pytest.raises(UserError, match=r"00000\.txt: missing"):
        write_scenes(tmp_path / "a", scenes)
    (tmp_path / "a/scenes.json").write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        write_scenes(tmp_path / "a", scenes)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        write_scenes(tmp_path / "mine", scenes)
    assert files_of(tmp_path / "mine") == {"thesis.txt": b"years of work"}
    with pytest.raises(UserError, match="not a folder"):
        write_scenes(tmp_path / "mine/thesis.txt", scenes)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(rng, image):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_scenes, "add_noise", stop)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "a", SceneSet(train=1, val=1, img_size=128, seed=0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output"),
        (["--output", "x", "--train", "0"], "--train: out of range (got 0"),
        (["--output", "x", "--img_size", "100"], "--img_size: out of range (got 100"),
        (["--output", "x", "--seed", "many"], "--seed"),
        (["--output", "x", "--colour", "red"], "--colour"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_made_the_set(tmp_path):
    write_scenes(tmp_path / "a", SceneSet(train=1, val=1, img_size=128, seed=9))
    card = json.loads((tmp_path / "a/scenes.json").read_text())
    assert card == {"train": 1, "val": 1, "img_size": 128, "seed": 9, "format": 2}


def test_the_working_folder_can_be_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, ["--output", ".", "--train", "1", "--val", "1"]) == 0
    assert (tmp_path / "images/train/00000.jpg").is_file()

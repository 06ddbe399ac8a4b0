"""Train, test and predict from files to files, as a user does, on drawn scenes and a tiny
network; test_documents.py does so with a yolov4.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.commands import predict as predict_command
from mindyolo_v4.commands import test as test_command
from mindyolo_v4.commands import train as train_command
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.cpu_ops.norm_act import FusedNormAct
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.detect import complete, load_detector
from mindyolo_v4.distributed.collectives import Ranks
from mindyolo_v4.models import blocks
from mindyolo_v4.models.blocks import choose_fused
from mindyolo_v4.predict import predict_images
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from tests.support.runs import command, rows

pytestmark = pytest.mark.slow

TINY_RECIPE = """
model: {{architecture: yolov4-tiny, width: 0.1, objectness_prior: 0.3, anchors_wh_px: auto}}
data:
  format: yolo
  root: {root}
  train: images/train
  val: images/val
  img_size: 64
  num_workers: 2
  max_truths: 20
  augment: {{mosaic: canvas, mosaic_prob: 0.5, scale: 0.3, flip_prob: 0.5}}
optimizer: {{lr: 1.0e-5}}
schedule: {{warmup_epochs: 1}}
train: {{epochs: 3, per_batch_size: 4, ema: {{decay: 0.9, ramp_steps: 2}}, keep_checkpoints: 2}}
"""

PARTS = ["loss_box", "loss_obj", "loss_cls"]
METRIC_KEYS = {
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
}
METRIC_KEYS |= {"images", "read_ms", "network_ms", "nms_ms", "per_class"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(root, SceneSet(train=12, val=6, img_size=160, seed=0))
    return root


@pytest.fixture(scope="module")
def recipe(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY_RECIPE.format(root=scenes))
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished training."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert command(train_command.main, "--config", recipe, "--save_dir", folder) == 0
    return folder


def test_run_folder_holds_what_is_promised(run: Path, scenes: Path) -> None:
    for name in (
        "config.yaml",
        "train.log",
        "metrics.json",
        "results.png",
        "last.ckpt",
        "best.ckpt",
        "epoch_0003.ckpt",
    ):
        assert (run / name).stat().st_size > 0, name
    assert not (run / "epoch_0001.ckpt").exists()  # keep_checkpoints: 2
    assert list(run.rglob("events.out.tfevents*"))
    steps = rows(run / "steps.csv")
    assert list(steps[0]) == ["step", "epoch", "loss", *PARTS, "lr", "images_per_s"]
    assert [int(row["step"]) for row in steps] == list(range(1, 10))
    for row in steps:
        parts = [np.float32(row[name]) for name in PARTS]
        assert np.isclose(np.float32(row["loss"]), sum(parts), rtol=1e-6)
    assert [int(row["epoch"]) for row in rows(run / "metrics.csv")] == [1, 2, 3]
    best = json.loads((run / "metrics.json").read_text())
    assert METRIC_KEYS | {"epoch", "step", "train_seconds"} <= set(best)
    resolved = load_config(run / "config.yaml")
    assert resolved.data.root == str(scenes)
    assert list(resolved.data.names) == ["circle", "square", "triangle", "star"]


def test_anchors_are_fitted_and_recorded(run: Path, scenes: Path) -> None:
    """Of 12 scenes; another device that has rounded otherwise takes the numbers of rank 0."""
    recorded = load_config(run / "config.yaml")
    anchors = np.array(recorded.model.anchors_wh_px)
    assert anchors.shape == (6, 2) and anchors[0].tolist() == [1.0, 1.0]
    card = Checkpoint.open(run / "best.ckpt").card
    assert card.model == recorded.model and card.config["model"]["anchors_wh_px"][1] != [1.0, 1.0]
    log = (run / "train.log").read_text()
    assert f"[{anchors[5, 0]:g}, {anchors[5, 1]:g}]], fitted to" in log
    assert "fitted   mean best IoU 0." in log and "default  mean best IoU 0." in log

    asked = replace(recorded, model=replace(recorded.model, anchors_wh_px="auto"))
    split = read_split(recorded.data, "train")
    assert complete(asked, split, Ranks())[0].model == recorded.model
    other = complete(asked, split, OfRank0(1, 2))[0].model.anchors_wh_px
    assert np.array_equal(np.array(other), anchors + 1)
    assert complete(recorded, split, Ranks()) == (recorded, [])


class OfRank0(Ranks):
    """The second of two devices; the rows of the first are larger by 1."""

    def gather_rows(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows + 1, rows])


def test_the_log_says_whether_operators_are_fused(run: Path, graph_mode: None) -> None:
    lines = (run / "train.log").read_text().splitlines()
    (line,) = (line for line in lines if "batch normalisation with activation" in line)
    assert line.endswith(choose_fused("auto")[1])


def test_fused_operators_demanded_without_a_compiler_end_with_one_line(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status = command(
        train_command.main,
        "--config",
        recipe,
        "--save_dir",
        tmp_path / "r",
        "--model.cpu_fused",
        "on",
    )
    assert status == 2
    assert (
        "model.cpu_fused: neither g++ nor c++ is on PATH"
        in capfd.readouterr().err.strip().splitlines()[-1]
    )
    assert not (tmp_path / "r").exists()


def test_a_detector_is_loaded_without_compiling_operators(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise AssertionError("asked for the fused operators")

    monkeypatch.setattr(blocks, "fused_library", refuse)
    network, card = load_detector(run / "last.ckpt")
    assert card.model.cpu_fused == "auto"
    assert not any(isinstance(cell, FusedNormAct) for _, cell in network.cells_and_names())


@pytest.fixture(scope="module")
def tested(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what test.py has written about the best checkpoint."""
    folder = tmp_path_factory.mktemp("tested") / "t"
    assert command(test_command.main, "--weight", run / "best.ckpt", "--save_dir", folder) == 0
    return folder


def test_testing_the_best_checkpoint_gives_the_metrics_of_the_training(
    run: Path, tested: Path
) -> None:
    metrics = json.loads((tested / "metrics.json").read_text())
    assert set(metrics) >= METRIC_KEYS
    best = json.loads((run / "metrics.json").read_text())
    assert metrics["images"] == 6
    for name in ("AP", "AP50", "AR100"):
        assert metrics[name] == pytest.approx(best[name], abs=1e-6)
    truths = json.loads((tested / "ground_truth.json").read_text())
    predictions = json.loads((tested / "predictions.json").read_text())
    image_ids = {image["id"] for image in truths["images"]}
    assert image_ids == set(range(1, 7))
    assert all(
        entry["image_id"] in image_ids and 1 <= entry["category_id"] <= 4 for entry in predictions
    )


def test_batch_size_does_not_change_the_metrics(run: Path, tested: Path, tmp_path: Path) -> None:
    options = ["--weight", run / "best.ckpt", "--save_dir", tmp_path / "t", "--batch_size", 1]
    assert command(test_command.main, *options) == 0
    results = [
        json.loads((folder / "predictions.json").read_text()) for folder in (tested, tmp_path / "t")
    ]
    assert len(results[0]) == len(results[1]) > 0
    first, second = ([entry["score"] for entry in result] for result in results)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_predict_draws_and_lists_every_image(run: Path, scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    sources = sorted((scenes / "images/val").iterdir())
    (folder / "a b.jpg").write_bytes(sources[0].read_bytes())
    (folder / "a b.png").write_bytes(sources[1].read_bytes())
    (folder / "broken.jpg").write_bytes(b"not a picture")
    arguments = [
        "--weight",
        run / "last.ckpt",
        "--source",
        folder,
        "--save_dir",
        tmp_path / "p",
        "--conf_thres",
        "0.01",
    ]
    assert command(predict_command.main, *arguments) == 0
    listed = json.loads((tmp_path / "p/predictions.json").read_text())
    assert [Path(entry["file"]).name for entry in listed] == ["a b.jpg", "a b.png"]
    for name in ("a b.jpg", "a b_2.jpg"):
        drawn = cv2.imread(str(tmp_path / "p" / name))
        assert drawn.shape == (160, 160, 3)
    for entry in listed:
        assert (entry["width"], entry["height"]) == (160, 160)
        for found in entry["detections"]:
            assert set(found) == {"class_id", "class_name", "score", "box_xyxy_px"}
            left, top, right, bottom = found["box_xyxy_px"]
            assert 0 <= left < right <= 160 and 0 <= top < bottom <= 160
    assert "skipped" in (tmp_path / "p/predict.log").read_text()


def test_functions_for_notebooks(run: Path, scenes: Path, pynative_mode: None) -> None:
    network, card = load_detector(run / "best.ckpt")
    maps = network(ms.Tensor(np.zeros((1, 3, 64, 64), np.float32)))
    assert [level.shape for level in maps] == [(1, 27, 4, 4), (1, 27, 2, 2)]
    assert (card.architecture, card.img_size, card.preprocessing.resize) == (
        "yolov4-tiny",
        64,
        "letterbox",
    )
    assert card.class_names == ("circle", "square", "triangle", "star")
    assert "mindyolo_v4" in card.source
    path = sorted((scenes / "images/val").iterdir())[0]
    image = cv2.imread(str(path))[..., ::-1]
    by_path, by_array = predict_images(run / "best.ckpt", [path, image], conf_thres=0.01)
    assert by_path["file"] == str(path)
    assert by_path["detections"] == by_array["detections"]


@pytest.mark.parametrize(
    ("main", "arguments", "parts"),
    [
        (
            train_command.main,
            ["--config", "{recipe}", "--save_dir", "{run}"],
            ["--save_dir", "not empty", "--resume"],
        ),
        (train_command.main, ["--config", "{recipe}", "--data.train", "nowhere"], ["nowhere"]),
        (
            train_command.main,
            ["--config", "{recipe}", "--data.num_classes", "7"],
            ["num_classes", "7", "4"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--device_target", "Ascend"],
            ["--device_target CPU"],
        ),
        (train_command.main, ["--config", "{recipe}", "--weight", "{recipe}"], ["tiny.yaml"]),
        (
            train_command.main,
            ["--config", "{recipe}", "--train.freeze", "[backbne.]"],
            ["train.freeze", "backbne."],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--is_parallel", "True"],
            ["--is_parallel", "msrun"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--train.accumulate", "9"],
            ["train.accumulate", "an epoch", "9"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--resume", "nothere.ckpt"],
            ["nothere.ckpt"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--resume"],
            ["--resume", "no run folder runs/tiny-<n>"],
        ),
        (test_command.main, [], ["--weight: missing"]),
        (
            test_command.main,
            ["--weight", "no.ckpt", "--device_target", "Ascend"],
            ["--device_target CPU"],
        ),
        (test_command.main, ["--weight", "no.ckpt"], ["no.ckpt"]),
        (
            test_command.main,
            ["--weight", "{run}/best.ckpt", "--model.width", "1"],
            ["model.width", "1.0", "0.1"],
        ),
        (
            test_command.main,
            ["--weight", "{run}/best.ckpt", "--save_dir", "{run}"],
            ["not empty", "--exist_ok"],
        ),
        (test_command.main, ["--weight", "{run}/best.ckpt", "--split", "test"], ["data.test"]),
        (
            predict_command.main,
            ["--weight", "{run}/best.ckpt", "--source", "{run}/*.tif"],
            ["no image there"],
        ),
        (predict_command.main, ["--weight", "{run}/best.ckpt"], ["--source: missing"]),
    ],
)
def test_user_errors_are_one_line_with_status_2_and_leave_nothing(
    main: object,
    arguments: Sequence[str],
    parts: list[str],
    recipe: Path,
    run: Path,
    tmp_path: Path,
    capfd,
    monkeypatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [word.format(recipe=recipe, run=run) for word in arguments]
    assert command(main, *filled) == 2
    error = capfd.readouterr().err.strip().splitlines()
    lines = [line for line in error if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in "\n".join(error)
    for part in parts:
        assert part in lines[0]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))

"""Train, test and predict from files to files, as a user does, on drawn scenes and a tiny
network; test_documents.py does so with a yolov4.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.commands import predict as predict_command
from mindyolo_v4.commands import test as test_command
from mindyolo_v4.commands import train as train_command
from mindyolo_v4.config.recipe import build_config, load_config
from mindyolo_v4.cpu_ops.norm_act import FusedNormAct
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import ImageRecord
from mindyolo_v4.detect import (
    TASK,
    check_anchors,
    complete,
    load_detector,
    train_stream,
    training_forward,
    validation_loss,
)
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.scoring import Scorer
from mindyolo_v4.engine.sizes import forward_by_size
from mindyolo_v4.models import blocks
from mindyolo_v4.models.blocks import choose_fused
from mindyolo_v4.predict import predict_images
from mindyolo_v4.tools import fit_anchors
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from tests.support.bright_boxes import BrightBoxes
from tests.support.runs import command, rows
from tests.support.tiny import TinyNet
from tests.support.tiny_task import RUNTIME

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

ONE_BY_ONE = ("--ms_mode", "pynative")  # takes less time than to compile a graph
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
        "labels.png",
        "val_1.jpg",
        "val_2.jpg",
        "report.html",
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
    validations = rows(run / "metrics.csv")
    assert [int(row["epoch"]) for row in validations] == [1, 2, 3]
    for row in validations:
        parts = [float(row[f"val_{name}"]) for name in PARTS]
        assert min(parts) > 0
        assert float(row["val_loss"]) == pytest.approx(sum(parts), rel=1e-5)
    best = json.loads((run / "metrics.json").read_text())
    assert METRIC_KEYS | {"epoch", "step", "train_seconds"} <= set(best)
    resolved = load_config(run / "config.yaml")
    assert resolved.data.root == str(scenes)
    assert list(resolved.data.names) == ["circle", "square", "triangle", "star"]


def test_the_first_batches_are_drawn_as_the_network_sees_them(run: Path, tmp_path: Path) -> None:
    config = load_config(run / "config.yaml")
    stream = train_stream(config, read_split(config.data, "train"), Ranks())
    for number, columns in enumerate(stream.batches(0, 3), 1):
        name = f"train_batch_{number}.jpg"
        arrays = [column.asnumpy() for column in columns]
        TASK.draw_batch(arrays, config.data.names, tmp_path / name)
        assert (run / name).read_bytes() == (tmp_path / name).read_bytes()

        # Between the labels a cell is the image itself.
        cell = cv2.imread(str(run / name))[:480, :480, ::-1].astype(int)
        image = cv2.resize(arrays[0][0].transpose(1, 2, 0), (480, 480)).astype(int)
        assert np.median(abs(cell - image)) <= 3
    assert not (run / "train_batch_4.jpg").exists()


def test_images_targets_and_loss_agree_on_the_size(recipe: Path) -> None:
    """Of 32 and 64 px: 10 steps have one size; seed 0 draws 32 px, then 64."""
    anchors = ("model.anchors_wh_px", "null")
    config = load_config(recipe, [("train.random_sizes", "[32, 64]"), ("seed", "0"), anchors])
    dataset = read_split(config.data, "train")
    stream = train_stream(config, dataset, Ranks())
    forward = forward_by_size(config, lambda sized: training_forward(sized, TinyNet(), 4))
    predictions = {
        size: len(cell.loss.constants[0])
        for size, cell in zip(forward.sizes, forward.cells_of_sizes, strict=True)
    }
    # 3 anchors at strides 16 and 32
    assert predictions == {32: 3 * (4 + 1), 64: 3 * (16 + 4)}

    largest_id = {32: 0, 64: 0}
    largest_edge = {32: 0.0, 64: 0.0}
    for number, (images, match_ids, _, targets_xyxy_px) in enumerate(stream.batches(0, 15)):
        size = images.shape[-1]
        assert images.shape == (4, 3, size, size)
        assert size == (32 if number < 10 else 64)
        largest_id[size] = max(largest_id[size], int(match_ids.asnumpy()[:, 0].max()))
        largest_edge[size] = max(largest_edge[size], float(targets_xyxy_px.asnumpy().max()))
    for size in (32, 64):
        assert 0.8 * predictions[size] < largest_id[size] < predictions[size]
        assert 0.8 * size < largest_edge[size] <= size


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
    (line,) = (line for line in lines if "normalisation and activation while training" in line)
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
    assert "val_loss" not in metrics
    report = (tested / "report.html").read_text("utf-8")
    assert f"<title>Test of {run / 'best.ckpt'}</title>" in report
    assert f"{run.parent}" in report and "<h2>Metrics</h2>" in report
    best = json.loads((run / "metrics.json").read_text())
    assert metrics["images"] == 6 and metrics["AR100"] > 0
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
    assert command(test_command.main, *options, *ONE_BY_ONE) == 0
    results = [
        json.loads((folder / "predictions.json").read_text()) for folder in (tested, tmp_path / "t")
    ]
    assert len(results[0]) == len(results[1]) > 0
    first, second = ([entry["score"] for entry in result] for result in results)
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "evaluate", "views"),
    [
        (
            ["--tta", "--evaluate.tta_scales", "[1.0, 1.5]"],
            {"tta": True, "tta_scales": (1.0, 1.5)},
            # Two sizes of 64 px, both mirrored too.
            "6 regions, 4 variants of each; a graph for each input size: 64 x 64, 96 x 96",
        ),
        # 160 px in two tiles along each side, and whole: 5 regions per image.
        (["--tile", 96], {"tile": 96}, "30 regions, 1 variants of each"),
    ],
    ids=["tta", "tile"],
)
def test_the_command_scores_the_views_that_it_is_asked_for(
    run: Path,
    tested: Path,
    tmp_path: Path,
    words: Sequence[object],
    evaluate: dict[str, object],
    views: str,
    pynative_mode: None,
) -> None:
    options = ["--weight", run / "best.ckpt", "--save_dir", tmp_path / "t", *words]
    assert command(test_command.main, *options, *ONE_BY_ONE) == 0
    assert views in (tmp_path / "t" / "test.log").read_text()

    config = load_config(run / "config.yaml")
    config = replace(config, evaluate=replace(config.evaluate, **evaluate))
    network, _ = load_detector(run / "best.ckpt")
    dataset = TASK.read(config.data, "val")
    scores = Scorer(TASK, config, network, dataset, RUNTIME)(lambda: None, True)
    metrics = json.loads((tmp_path / "t" / "metrics.json").read_text())
    assert metrics["AR100"] > 0
    for name in ("AP", "AP50", "AR1", "AR100"):
        assert metrics[name] == pytest.approx(scores.metrics[name], abs=1e-6)
    plain, found = (
        json.loads((folder / "predictions.json").read_text()) for folder in (tested, tmp_path / "t")
    )
    assert found == scores.files["predictions.json"] != plain


VIEWS = [
    {},
    {"tta": True, "tta_scales": (1.0, 1.5)},
    {"tile": 96, "tile_overlap": 0.4},
    {"tile": 96, "tile_overlap": 0.4, "tta": True, "tta_scales": (1.0, 1.5), "nms": "wbf"},
]


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images of several sizes, each with a bright rectangle, as a YOLO set."""
    root = tmp_path_factory.mktemp("rectangles")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir()
    for number, (width, height) in enumerate([(200, 64), (64, 64), (90, 200), (96, 70), (180, 90)]):
        image = np.full((height, width, 3), 60, np.uint8)
        left, top = (int(rng.integers(0, side - 30)) for side in (width, height))
        image[top : top + 30, left : left + 30] = 250
        cv2.imwrite(str(root / f"images/{number}.png"), image)
        row = f"0 {(left + 15) / width} {(top + 15) / height} {30 / width} {30 / height}\n"
        (root / f"labels/{number}.txt").write_text(row)
    return root


@dataclass
class OneOfTwo:
    """Device `rank` of two; `others` are the rows of the device before it."""

    rank: int
    others: np.ndarray | None = None
    size: int = 2

    def gather_rows(self, rows: np.ndarray) -> np.ndarray:
        if self.others is not None:
            rows = np.concatenate([self.others, rows])
        self.others = rows
        return rows

    def sum(self, numbers: list[int]) -> list[int]:
        return numbers


@pytest.mark.parametrize("options", VIEWS)
def test_a_network_that_sees_every_object_scores_full_marks(
    rectangles: Path, options: dict[str, object]
) -> None:
    data = {"format": "yolo", "root": str(rectangles), "val": "images", "names": ["a", "b"]}
    data |= {"img_size": 64, "num_workers": 1}
    config = build_config({"data": data, "evaluate": {"per_batch_size": 3, **options}})
    dataset = TASK.read(config.data, "val")
    task = replace(TASK, inference=lambda *_: BrightBoxes(config.model.anchor_set, 2))

    def metrics_on(ranks: object) -> dict[str, object]:
        runtime = replace(RUNTIME, ranks=ranks)
        return Scorer(task, config, nn.Cell(), dataset, runtime)(lambda: None, True).metrics

    metrics = metrics_on(RUNTIME.ranks)
    assert metrics["AP50"] == pytest.approx(1.0)
    assert metrics["AP"] > 0.7
    assert metrics["images"] == 5
    assert set(metrics) >= METRIC_KEYS

    # Each of two devices has images of its own; together they find the same.
    first = OneOfTwo(0)
    metrics_on(first)
    both = metrics_on(OneOfTwo(1, first.others))
    assert {name: both[name] for name in ("AP", "AP75", "AR100")} == {
        name: metrics[name] for name in ("AP", "AP75", "AR100")
    }


def test_a_device_whose_last_batch_is_empty_has_losses(rectangles: Path) -> None:
    """Of 5 images in batches of 2, the second device has 2, and two batches as the first one."""
    data = {"format": "yolo", "root": str(rectangles), "val": "images", "names": ["a", "b"]}
    data |= {"img_size": 64, "num_workers": 1}
    config = build_config({"data": data, "evaluate": {"per_batch_size": 2}})
    dataset = TASK.read(config.data, "val")
    task = replace(TASK, inference=lambda *_: BrightBoxes(config.model.anchor_set, 2))
    runtime = replace(RUNTIME, ranks=Ranks(1, 2))
    loss = validation_loss(config, 2)
    metrics = Scorer(task, config, nn.Cell(), dataset, runtime, loss)(lambda: None).metrics
    assert metrics["val_loss"] > 0


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
        "0.00001",  # what has hardly been trained has the prior probabilities, 0.01 x 0.01
    ]
    assert command(predict_command.main, *arguments, *ONE_BY_ONE) == 0
    listed = json.loads((tmp_path / "p/predictions.json").read_text())
    assert [Path(entry["file"]).name for entry in listed] == ["a b.jpg", "a b.png"]
    for name in ("a b.jpg", "a b_2.jpg"):
        drawn = cv2.imread(str(tmp_path / "p" / name))
        assert drawn.shape == (160, 160, 3)
    assert all(entry["detections"] for entry in listed)
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
            ["--weight", "{run}/best.ckpt", "--device_target", "Ascend"],
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


def test_anchors_that_do_not_fit_the_boxes_are_named(
    recipe: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Boxes of an anchor's own size have IoU 1; one of 640 x 10 has at most 12 x 10 / 6,472."""
    config = load_config(recipe, [("model.architecture", "yolov4"), ("data.img_size", "640")])
    config = replace(config, model=replace(config.model, anchors_wh_px=None))
    fitting = [[0, 0, 142, 110]] * 19
    data = read_split(config.data, "train")

    def warnings(misfits: int) -> list[str]:
        boxes = np.float32([*fitting[misfits:], *[[0, 0, 640, 10]] * misfits])
        none = np.zeros(len(boxes), bool)
        ids = np.zeros(len(boxes), np.int64)
        record = ImageRecord(Path("a"), 640, 640, boxes, ids, none, none, none * 1.0, 1, "")
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="mindyolo_v4"):
            check_anchors(config, replace(data, records=type(data.records)([record])), tmp_path)
        return [entry.getMessage() for entry in caplog.records]

    assert warnings(0) == ["best possible recall of the anchors: 1.0000"]
    first, warning = warnings(1)
    assert first == "best possible recall of the anchors: 0.9474"  # 18 / 19
    assert warning.endswith(f"fit_anchors --config {tmp_path / 'config.yaml'}")
    assert fit_anchors.main(["--config", str(run / "config.yaml")]) == 0

"""Train, test, predict with the classifier and hand it over, from files to files, on coloured
pictures.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import predict as predict_command
import test as test_command
import train as train_command
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.tools import to_mindrecord
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from tests.support.class_folders import SYNSETS, write_imagenet
from tests.support.runs import command, rows

pytestmark = pytest.mark.slow

RECIPE = """
model: {{architecture: cspdarknet53, width: 0.1, depth: 0.1, bn_momentum: 0.7}}
data:
  format: imagenet
  root: {root}
  train: train
  val: val
  img_size: 64
  resize: crop
  crop_fraction: 0.8
  num_workers: 1
  mean: [123.675, 116.28, 103.53]
  std: [58.395, 57.12, 57.375]
  augment: {{flip_prob: 0.5}}
  classify: {{area: [0.5, 1.0], mix: both, mix_prob: 0.3}}
loss: {{label_smoothing: 0.1}}
optimizer: {{lr: 0.05}}
schedule: {{warmup_epochs: 1}}
train: {{epochs: 12, per_batch_size: 8, ema: {{decay: 0.6, ramp_steps: 2}}, keep_checkpoints: 2}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagenet(tmp_path_factory.mktemp("data") / "set", train=12, val=5, classes=6)


@pytest.fixture(scope="module")
def recipe(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "colours.yaml"
    path.write_text(RECIPE.format(root=root))
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished training."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    assert command(train_command.main, "--config", recipe, "--save_dir", folder) == 0
    return folder


def test_run_folder_holds_what_is_promised(run: Path) -> None:
    names = (
        "config.yaml",
        "train.log",
        "metrics.json",
        "results.png",
        "last.ckpt",
        "best.ckpt",
        "epoch_0012.ckpt",
    )
    for name in names:
        assert (run / name).stat().st_size > 0, name
    assert list(run.rglob("events.out.tfevents*"))
    steps = rows(run / "steps.csv")
    assert list(steps[0]) == ["step", "epoch", "loss", "acc1", "lr", "images_per_s"]
    assert [int(row["step"]) for row in steps] == list(range(1, 109))  # 12 x (72 // 8)
    metrics = rows(run / "metrics.csv")
    assert list(metrics[0])[:6] == ["epoch", "step", "train_seconds", "acc1", "acc5", "images"]
    best = json.loads((run / "metrics.json").read_text())
    assert best["acc1"] == max(float(row["acc1"]) for row in metrics)
    assert best["images"] == 30
    assert load_config(run / "config.yaml").data.names == list(SYNSETS)


def test_colours_are_learnt(run: Path) -> None:
    assert json.loads((run / "metrics.json").read_text())["acc1"] >= 80.0


def test_the_log_has_the_lines_of_the_field(run: Path) -> None:
    log = (run / "train.log").read_text()
    epochs = re.findall(r"Epoch: \[(\d+)\] Avg img/s: (\d+\.\d+) Loss: (\d+\.\d+)", log)
    assert [int(epoch) for epoch, _, _ in epochs] == list(range(1, 13))
    assert min(float(speed) for _, speed, _ in epochs) > 0
    losses = [float(row["loss"]) for row in rows(run / "steps.csv")]
    assert float(epochs[0][2]) == pytest.approx(np.mean(losses[:9]), abs=1e-4)
    shown = re.findall(r" \* Acc@1 (\d+\.\d{3}) Acc@5 (\d+\.\d{3})", log)
    table = rows(run / "metrics.csv")
    assert [float(top1) for top1, _ in shown] == pytest.approx(
        [float(row["acc1"]) for row in table], abs=1e-3
    )


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_testing_counts_every_image_once_whatever_the_batch(
    run: Path, tmp_path: Path, batch: int
) -> None:
    options = ["--weight", run / "best.ckpt", "--save_dir", tmp_path / "t", "--batch_size", batch]
    assert command(test_command.main, *options) == 0
    metrics = json.loads((tmp_path / "t/metrics.json").read_text())
    best = json.loads((run / "metrics.json").read_text())
    assert {name: metrics[name] for name in ("acc1", "acc5", "images")} == {
        name: best[name] for name in ("acc1", "acc5", "images")
    }
    assert (
        f" * Acc@1 {metrics['acc1']:.3f} Acc@5 {metrics['acc5']:.3f}"
        in (tmp_path / "t/test.log").read_text()
    )


def test_packed_training_data_give_the_same_steps(
    run: Path, recipe: Path, root: Path, tmp_path: Path
) -> None:
    options = [
        "--data_path",
        root,
        "--split",
        "train",
        "--output",
        tmp_path / "packed",
        "--shards",
        2,
    ]
    assert command(to_mindrecord.main, *options) == 0
    options = ["--config", recipe, "--data.mindrecord", tmp_path / "packed", "--train.max_steps", 3]
    assert command(train_command.main, *options, "--save_dir", tmp_path / "r") == 0
    assert [row["loss"] for row in rows(tmp_path / "r/steps.csv")] == [
        row["loss"] for row in rows(run / "steps.csv")[:3]
    ]


def test_resume_continues_bit_for_bit(recipe: Path, tmp_path: Path) -> None:
    """6 steps end as those that go on from the checkpoint of step 3, with mixes, averages and a
    dynamic loss scale.
    """
    options = [
        "--config",
        recipe,
        "--train.per_batch_size",
        4,
        "--train.loss_scale",
        "dynamic",
        "--epochs",
        1,
    ]
    options += ["--train.max_steps", 6, "--train.checkpoint_steps", 3, "--data.num_workers", 2]
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    assert command(train_command.main, *options, "--save_dir", whole) == 0
    assert (
        command(
            train_command.main,
            *options,
            "--save_dir",
            rest,
            "--resume",
            whole / "step_00000003.ckpt",
        )
        == 0
    )
    losses = [[row["loss"] for row in rows(folder / "steps.csv")] for folder in (whole, rest)]
    assert len(losses[0]) == 6
    assert losses[0][3:] == losses[1]

    import mindspore as ms

    first, second = (ms.load_checkpoint(str(folder / "last.ckpt")) for folder in (whole, rest))
    tensors = [name for name, value in first.items() if isinstance(value, ms.Tensor)]
    assert set(first) == set(second) and any(name.startswith("ema.") for name in tensors)
    for name in tensors:
        np.testing.assert_array_equal(first[name].asnumpy(), second[name].asnumpy(), err_msg=name)


def test_predict_names_the_five_best(run: Path, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for label, synset in enumerate(SYNSETS[:3]):
        (folder / f"{label}.JPEG").write_bytes(
            (root / "val" / synset / f"val_{label}0.JPEG").read_bytes()
        )
    (folder / "broken.jpg").write_bytes(b"not a picture")
    options = ["--weight", run / "best.ckpt", "--source", folder, "--save_dir", tmp_path / "p"]
    assert command(predict_command.main, *options) == 0
    listed = json.loads((tmp_path / "p/predictions.json").read_text())
    assert [Path(entry["file"]).name for entry in listed] == ["0.JPEG", "1.JPEG", "2.JPEG"]
    for entry in listed:
        assert set(entry) == {"file", "width", "height", "top5"}
        assert (entry["width"], entry["height"]) == (48, 40)
        scores = [found["score"] for found in entry["top5"]]
        assert (
            len(scores) == 5
            and scores == sorted(scores, reverse=True)
            and sum(scores) <= 1.0 + 1e-9
        )
        assert all(found["class_name"] == SYNSETS[found["class_id"]] for found in entry["top5"])
    log = (tmp_path / "p/predict.log").read_text()
    assert (
        f"0.JPEG: {listed[0]['top5'][0]['class_name']} {listed[0]['top5'][0]['score']:.3f}, " in log
    )
    assert "skipped" in log and not list((tmp_path / "p").glob("*.jpg"))


def test_functions_for_notebooks(run: Path, root: Path) -> None:
    import mindspore as ms

    from mindyolo_v4.classify import load_classifier
    from mindyolo_v4.predict import predict_images

    network, card = load_classifier(run / "best.ckpt")
    assert network(ms.Tensor(np.zeros((2, 3, 64, 64), np.float32))).shape == (2, 6)
    assert (card.task, card.architecture, card.img_size, card.class_names) == (
        "classify",
        "cspdarknet53",
        64,
        SYNSETS,
    )
    assert (card.preprocessing.resize, card.preprocessing.crop_fraction) == ("crop", 0.8)
    (found,) = predict_images(run / "best.ckpt", [root / "val" / SYNSETS[0] / "val_00.JPEG"])
    assert len(found["top5"]) == 5


def test_the_detector_starts_from_the_backbone_and_says_so(run: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", SceneSet(train=4, val=2, img_size=128, seed=0))
    (tmp_path / "det.yaml").write_text(
        f"model: {{width: 0.1, depth: 0.1}}\n"
        f"data: {{format: yolo, root: {tmp_path / 'scenes'}, train: images/train, "
        "img_size: 64, max_truths: 20}\n"
        "train: {epochs: 1, per_batch_size: 4, max_steps: 1}\noptimizer: {lr: 1.0e-9}\n"
    )
    weight = run / "best.ckpt"
    options = ["--config", tmp_path / "det.yaml", "--weight", weight, "--save_dir", tmp_path / "d"]
    assert command(train_command.main, *options) == 0
    log = (tmp_path / "d/train.log").read_text()
    (taken, asked) = map(int, re.search(r"took (\d+) of (\d+) parameters", log).groups())
    assert "in the file only, not used: fc.weight, fc.bias" in log
    assert "data.mean: [123.675, 116.28, 103.53]" in log  # the backbone goes on seeing what it saw

    import mindspore as ms

    there = ms.load_checkpoint(str(weight))
    backbone = [name for name in there if name.startswith("backbone.")]
    assert taken == len(backbone) < asked
    here = ms.load_checkpoint(str(tmp_path / "d/last.ckpt"))
    for name in (name for name in backbone if name.endswith((".weight", ".gamma"))):
        np.testing.assert_allclose(
            here[name].asnumpy(), there[f"ema.{name}"].asnumpy(), atol=1e-6, err_msg=name
        )


def test_without_a_recipe_the_data_decide(
    root: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [
        "--model.width",
        "0.1",
        "--model.depth",
        "0.1",
        "--img_size",
        "32",
        "--train.max_steps",
        "1",
    ]
    arguments = ["--batch-size", "4", "--epochs", "1", "--data-path", root, *options]
    assert command(train_command.main, *arguments) == 0
    first = capfd.readouterr().out.splitlines()[0]
    assert "configs/cspdarknet53/imagenet.yaml" in first and str(root) in first
    assert json.loads((tmp_path / "runs/imagenet-1/metrics.json").read_text())["images"] == 30
    resolved = load_config(tmp_path / "runs/imagenet-1/config.yaml")
    assert (resolved.train.per_batch_size, resolved.optimizer.decay_on) == (4, "all")


@pytest.mark.parametrize(
    ("main", "arguments", "parts"),
    [
        (
            train_command.main,
            ["--config", "{recipe}", "--data_path", "nowhere"],
            ["data.root", "nowhere"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--data.format", "coco"],
            ["data.format", "is for detectors"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--data.num_classes", "7"],
            ["num_classes", "7", "6"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--batch_size", "100"],
            ["train.per_batch_size", "72"],
        ),
        (
            train_command.main,
            ["--config", "{recipe}", "--device_target", "Ascend"],
            ["--device_target CPU"],
        ),
        (
            test_command.main,
            ["--weight", "{run}/best.ckpt", "--model.width", "1"],
            ["model.width", "1.0", "0.1"],
        ),
        (
            test_command.main,
            ["--weight", "{run}/best.ckpt", "--split", "test"],
            ["data.test", "not a split"],
        ),
        (
            test_command.main,
            ["--weight", "{run}/best.ckpt", "--data.names", "[a,b,c,d,e,f]"],
            ["class names are not the"],
        ),
        (
            predict_command.main,
            ["--weight", "{run}/best.ckpt", "--source", "{run}/*.tif"],
            ["no image there"],
        ),
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
    assert command(main, *[word.format(recipe=recipe, run=run) for word in arguments]) == 2
    error = capfd.readouterr().err.strip().splitlines()
    (line,) = (line for line in error if line.startswith("error: "))
    assert "Traceback" not in "\n".join(error)
    assert [part for part in parts if part not in line] == []
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_classifier_is_no_detector(run: Path) -> None:
    from mindyolo_v4.detect import load_detector
    from mindyolo_v4.errors import UserError

    with pytest.raises(
        UserError, match=r"best\.ckpt: holds no detector \(got classify, expected detect\)"
    ):
        load_detector(run / "best.ckpt")

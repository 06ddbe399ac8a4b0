"""Train, test, predict with the classifier and hand it over, from files to files, on coloured
pictures.

A training compiles its graph; the others, testing and prediction run operator by operator, which
takes less time for a few pictures.
"""

import contextlib
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.checkpoint.settings import take_over_variants
from mindyolo_v4.classify import load_classifier, train_stream
from mindyolo_v4.commands import predict as predict_command
from mindyolo_v4.commands import test as test_command
from mindyolo_v4.commands import train as train_command
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.readers.mindrecord import read_class_split
from mindyolo_v4.detect import load_detector
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.build import build_network
from mindyolo_v4.predict import predict_images
from mindyolo_v4.serve import serve
from mindyolo_v4.tools import to_mindrecord
from tests.support.class_folders import SYNSETS, write_imagenet
from tests.support.runs import command, rows, tensor_bytes, working_in

pytestmark = pytest.mark.slow

RECIPE = """
model: {{architecture: cspdarknet53, width: 0.1, depth: 0.1, bn_momentum: 0.7}}
data:
  format: imagenet
  root: {root}
  train: train
  val: val
  img_size: 32
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
WITHOUT_RECIPE = """
--model.width 0.1 --model.depth 0.1 --img_size 32 --batch-size 4 --epochs 1 --data.num_workers 2
--data.classify.mix both --data.classify.mix_prob 0.3 --train.ema.decay 0.6 --train.ema.ramp_steps 2
--train.loss_scale dynamic --train.max_steps 4 --train.checkpoint_steps 2
"""
AT_ONCE = ("--ms_mode", "pynative")


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
        "labels.png",
        "train_batch_3.jpg",
        "val_3.jpg",
        "report.html",
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
    names = ["epoch", "step", "train_seconds", "acc1", "acc5", "images", "val_loss"]
    assert list(metrics[0])[:7] == names
    # Smoothing by 0.1 over 6 classes: no loss is below the entropy of 0.9 and five times 0.02.
    assert min(float(row["val_loss"]) for row in metrics) > 0.486
    assert float(metrics[-1]["val_loss"]) < float(metrics[0]["val_loss"])
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
    assert command(test_command.main, *options, *AT_ONCE) == 0
    metrics = json.loads((tmp_path / "t/metrics.json").read_text())
    best = json.loads((run / "metrics.json").read_text())
    assert {name: metrics[name] for name in ("acc1", "acc5", "images")} == {
        name: best[name] for name in ("acc1", "acc5", "images")
    }
    assert (
        f" * Acc@1 {metrics['acc1']:.3f} Acc@5 {metrics['acc5']:.3f}"
        in (tmp_path / "t/test.log").read_text()
    )


@pytest.mark.parametrize("main", [test_command.main, predict_command.main, serve.main])
def test_a_classifier_is_tested_at_any_size(
    run: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--weight", str(run / "best.ckpt"), "--img_size", "50", "--print_config"]) == 0
    assert "img_size: 50\n" in capsys.readouterr().out


def test_packed_training_data_give_the_same_batches(
    recipe: Path, root: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    options = ["--data_path", root, "--split", "train", "--output", packed, "--shards", 2]
    assert command(to_mindrecord.main, *options) == 0
    batches = []
    for overrides in ((), (("data.mindrecord", str(packed)),)):
        config = load_config(recipe, overrides)
        stream = train_stream(config, read_class_split(config.data, "train"), Ranks())
        batches.append(list(stream.batches(0, 3)))
    for of_files, of_packed in zip(*batches, strict=True):
        for first, second in zip(of_files, of_packed, strict=True):
            np.testing.assert_array_equal(first.asnumpy(), second.asnumpy())


@pytest.fixture(scope="module")
def without_recipe(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the run folder of a training without a recipe, and what the training printed."""
    folder = tmp_path_factory.mktemp("without_recipe")
    printed = io.StringIO()
    with working_in(folder), contextlib.redirect_stderr(printed):
        words = "--data-path", root, *WITHOUT_RECIPE.split(), *AT_ONCE
        assert command(train_command.main, *words) == 0
    return folder / "runs/imagenet-1", printed.getvalue()


def test_without_a_recipe_the_data_decide(root: Path, without_recipe: tuple[Path, str]) -> None:
    folder, printed = without_recipe
    first = printed.splitlines()[0]
    assert "configs/cspdarknet53/imagenet.yaml" in first and str(root) in first
    assert json.loads((folder / "metrics.json").read_text())["images"] == 30
    resolved = load_config(folder / "config.yaml")
    assert (resolved.train.per_batch_size, resolved.optimizer.decay_on) == (4, "all")


def test_resume_continues_bit_for_bit(
    root: Path, without_recipe: tuple[Path, str], tmp_path: Path
) -> None:
    """4 steps end as those that go on from the checkpoint of step 2, with mixes, averages and a
    dynamic loss scale.
    """
    whole, rest = without_recipe[0], tmp_path / "rest"
    options = ["--data_path", root, *WITHOUT_RECIPE.split(), *AT_ONCE, "--save_dir", rest]
    newest = whole / "step_00000002.ckpt"
    assert command(train_command.main, *options, "--resume", newest) == 0
    losses = [[row["loss"] for row in rows(folder / "steps.csv")] for folder in (whole, rest)]
    assert len(losses[0]) == 4
    assert losses[0][2:] == losses[1]

    first, second = (tensor_bytes(folder / "last.ckpt") for folder in (whole, rest))
    assert {"ema.fc.weight", "fc.weight"} <= set(first)
    assert [name for name in first if first[name] != second[name]] == []
    assert set(first) == set(second)


def test_predict_names_the_five_best(run: Path, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for label, synset in enumerate(SYNSETS[:3]):
        (folder / f"{label}.JPEG").write_bytes(
            (root / "val" / synset / f"val_{label}0.JPEG").read_bytes()
        )
    (folder / "broken.jpg").write_bytes(b"not a picture")
    options = ["--weight", run / "best.ckpt", "--source", folder, "--save_dir", tmp_path / "p"]
    assert command(predict_command.main, *options, *AT_ONCE) == 0
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


def test_functions_for_notebooks(run: Path, root: Path, pynative_mode: None) -> None:
    network, card = load_classifier(run / "best.ckpt")
    assert network(ms.Tensor(np.zeros((2, 3, 32, 32), np.float32))).shape == (2, 6)
    assert (card.task, card.architecture, card.img_size, card.class_names) == (
        "classify",
        "cspdarknet53",
        32,
        SYNSETS,
    )
    assert (card.preprocessing.resize, card.preprocessing.crop_fraction) == ("crop", 0.8)
    (found,) = predict_images(run / "best.ckpt", [root / "val" / SYNSETS[0] / "val_00.JPEG"])
    assert len(found["top5"]) == 5


def test_the_detector_starts_from_the_backbone_and_says_so(run: Path) -> None:
    """The command of docs/classification.md trains such a detector: test_documents.py."""
    checkpoint = Checkpoint.open(run / "best.ckpt")
    model = ModelConfig(width=0.1, depth=0.1)
    config, taken_over = take_over_variants(Config(model=model), {}, checkpoint)
    assert config.data.mean == (123.675, 116.28, 103.53)  # the backbone goes on seeing what it saw
    assert any("data.mean: [123.675, 116.28, 103.53]" in line for line in taken_over)

    network = build_network(config.model, 4)
    report = str(checkpoint.load_weights(network, partial=True))
    (taken, asked) = map(int, re.search(r"took (\d+) of (\d+) parameters", report).groups())
    assert "in the file only, not used: fc.weight, fc.bias" in report
    there = checkpoint.file.tensors()
    backbone = [name for name in there if name.startswith("backbone.")]
    assert taken == len(backbone) < asked
    here = named_parameters(network)
    for name in backbone:
        expected = there.get(f"ema.{name}", there[name])
        np.testing.assert_array_equal(here[name].asnumpy(), expected, err_msg=name)


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
    with pytest.raises(
        UserError, match=r"best\.ckpt: holds no detector \(got classify, expected detect\)"
    ):
        load_detector(run / "best.ckpt")

"""Two workers of msrun on CPU, started by the scripts: the same numbers as of one process, and who
writes what.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindyolo_v4.commands import test as test_command
from mindyolo_v4.commands import train as train_command
from mindyolo_v4.models.sync_norm import AscendSyncNorm
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from tests.distributed import two_ranks
from tests.distributed.launch import REPOSITORY, launch, msrun, processes_naming
from tests.support.class_folders import write_imagenet
from tests.support.recipes import draw_scenes, write_tiny_recipe
from tests.support.runs import rows
from tests.tools.test_check_device import figures

pytestmark = pytest.mark.slow

SCRIPTS = REPOSITORY / "scripts"
RECIPE = """
model:
  {{architecture: yolov4-tiny, width: 0.1, objectness_prior: 0.3, cpu_fused: off, sync_bn: true}}
data:
  format: yolo
  root: {root}
  train: images/train
  val: images/val
  img_size: 96
  num_workers: 1
  max_truths: 20
  augment: {{mosaic: canvas, mosaic_prob: 0.5, scale: 0.3, flip_prob: 0.5}}
optimizer: {{lr: 2.0e-5}}
schedule: {{warmup_epochs: 1}}
train:
  {{epochs: 2, per_batch_size: {batch}, global_batch: 8, ema: {{decay: 0.9, ramp_steps: 2}},
    val_loss: false, pictures: 0}}
evaluate: {{per_batch_size: 2}}
"""
LEFT_TO_ROUNDING = 5e-5  # of a tensor's largest value,
OF_GRADIENTS = (
    1e-2  # the same; in the first layers they magnify a pooled maximum that rounding has moved
)
# or of this: what starts at 0 has moved by less than the rounding of the gradients of deep layers
SMALL = 2e-3
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "AR1", "AR10", "AR100")


@dataclass(frozen=True)
class Runs:
    """One process with batches of four images, and two with batches of two."""

    one: Path
    two: Path
    logs: Path
    recipe: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("two_workers")
    write_scenes(root / "scenes", SceneSet(train=17, val=7, img_size=160, seed=0))
    recipes = {}
    for batch in (2, 4):
        recipes[batch] = root / f"batch{batch}.yaml"
        recipes[batch].write_text(RECIPE.format(root=root / "scenes", batch=batch))
    found = Runs(root / "one", root / "two", root / "logs", recipes[2])
    # The script for one machine is a documented command: test_documents.py runs it.
    script = [SCRIPTS / "run_distribute_train_nodes.sh", "127.0.0.1", 1, 0, 2, found.logs]
    done = launch([*script, "--config", found.recipe, "--save_dir", found.two])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert (
        run_command(train_command.main, ["--config", str(recipes[4]), "--save_dir", str(found.one)])
        == 0
    )
    return found


def test_losses_are_those_of_one_process(runs: Runs) -> None:
    one, two = rows(runs.one / "steps.csv"), rows(runs.two / "steps.csv")
    assert (
        [row["step"] for row in two]
        == [row["step"] for row in one]
        == [str(step) for step in range(1, 9)]
    )
    for name in ("loss", "loss_box", "loss_obj", "loss_cls"):
        assert [float(row[name]) for row in two] == pytest.approx(
            [float(row[name]) for row in one], rel=1e-5
        )
    assert [row["lr"] for row in two] == [row["lr"] for row in one]


def test_weights_averages_and_optimizer_are_those_of_one_process(runs: Runs) -> None:
    one, two = (ms.load_checkpoint(str(folder / "last.ckpt")) for folder in (runs.one, runs.two))
    assert list(one) == list(two)
    compared = 0
    for name, value in one.items():
        if name == "mindyolo_v4" or not hasattr(value, "asnumpy"):
            continue
        mine, theirs = value.asnumpy().astype(np.float64), two[name].asnumpy().astype(np.float64)
        limit = OF_GRADIENTS if name.startswith("optimizer.") else LEFT_TO_ROUNDING
        assert np.abs(mine - theirs).max() <= limit * max(np.abs(mine).max(), SMALL), name
        compared += 1
    assert compared > 200


def test_validation_is_that_of_one_process(runs: Runs) -> None:
    one, two = rows(runs.one / "metrics.csv"), rows(runs.two / "metrics.csv")
    assert len(two) == 2
    assert float(two[-1]["AP50"]) > 0
    for name in NUMBERS:
        assert [float(row[name]) for row in two] == pytest.approx(
            [float(row[name]) for row in one], abs=1e-6
        )


def test_rank_0_writes_the_run_and_every_rank_its_log(runs: Runs) -> None:
    names = sorted(path.name for path in runs.two.iterdir())
    assert [name for name in names if name.startswith("rank_")] == ["rank_0.log", "rank_1.log"]
    assert ".ranks" not in names
    assert {"best.ckpt", "last.ckpt", "results.png", "train.log"} <= set(names)
    train_log, other = (runs.two / "train.log").read_text(), (runs.two / "rank_1.log").read_text()
    assert "2 device(s) x 2 images" in train_log
    several_cores = len(os.sched_getaffinity(0)) > 1
    assert all(("this worker keeps to" in log) == several_cores for log in (train_log, other))
    assert "statistics of all 2 devices" in train_log
    assert (
        "hint: 2 x 2 x 1 = 4 images per step, but the recipe's learning rate 2e-05 is for 8"
        in train_log
    )
    assert "epoch 2, step 8: AP" in other
    assert "ERROR" not in train_log + other
    assert [
        line
        for line in (runs.logs / "worker_1.log").read_text().splitlines()
        if line.startswith("error")
    ] == []
    assert processes_naming(str(runs.two)) == []


def test_scoring_a_checkpoint_equals_that_of_one_process(runs: Runs, tmp_path: Path) -> None:
    weight = runs.one / "last.ckpt"
    words = [
        "--weight",
        weight,
        "--data.num_workers",
        1,
        "--evaluate.per_batch_size",
        2,
        "--save_dir",
    ]
    done = launch(
        [SCRIPTS / "run_distribute_eval.sh", 2, tmp_path / "logs", *words, tmp_path / "two"]
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert run_command(test_command.main, [*map(str, words), str(tmp_path / "one")]) == 0
    found = [
        json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("one", "two")
    ]
    assert found[0] == found[1]
    assert len({row["image_id"] for row in found[1]}) == 7
    one, two = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")
    )
    assert [two[name] for name in NUMBERS] == pytest.approx(
        [one[name] for name in NUMBERS], abs=1e-6
    )
    assert (tmp_path / "two" / "rank_1.log").exists()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what two_ranks.py has computed and trained."""
    folder = tmp_path_factory.mktemp("ranks")
    write_imagenet(folder / "set", train=1, val=1, classes=3)
    scenes = draw_scenes(folder / "scenes", train=4, val=1)
    train = {"epochs": 1, "per_batch_size": 1, "hang_seconds": 5.0, "pictures": 0}
    train["freeze"] = ["backbone.", "neck."]
    write_tiny_recipe(folder / "tiny.yaml", scenes, train=train, data={"val": None})
    done = launch(msrun(folder / "logs", "python", "-m", "tests.distributed.two_ranks", folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return folder


def test_a_slow_compilation_of_the_average_is_no_hang(ranks: Path) -> None:
    assert "no progress" not in (ranks / "run/rank_0.log").read_text()
    assert (ranks / "run/last.ckpt").exists()


def test_norm_collectives_and_a_classifiers_score(ranks: Path) -> None:
    zero, one = (np.load(ranks / f"{rank}.npz") for rank in (0, 1))
    ms.set_context(mode=ms.GRAPH_MODE)
    norm = nn.BatchNorm2d(two_ranks.SHAPE[1], eps=1e-5, momentum=0.9)
    whole = two_ranks.norm_results(norm, *two_ranks.batch())
    dx = np.empty_like(whole["dx"])
    dx[0::2], dx[1::2] = zero["dx"] / 2, one["dx"] / 2  # of the mean over the devices
    assert np.abs(dx - whole["dx"]).max() < 1e-5 * np.abs(whole["dx"]).max()
    for name in ("loss", "dgamma", "dbeta"):
        assert (zero[name] + one[name]) / 2 == pytest.approx(whole[name], rel=1e-5, abs=5e-6), name
    for name in ("mean", "variance"):
        assert zero[name].tolist() == one[name].tolist()
        assert zero[name] == pytest.approx(whole[name], rel=1e-5, abs=1e-6), name
    for found in (zero, one):
        assert found["values"].tolist() == [0.0, 1.0, 2.0]  # rank 0's
        assert found["count"].tolist() == 7
        assert found["rows"].tolist() == [[101.0, 101.0]] * 3
        assert found["nothing"].shape == (0, 2)
        assert str(found["text"]) == "a folder"
        assert bool(found["any"])
        assert found["images"].tolist() == 3
        assert found["acc1"].tolist() == pytest.approx(200 / 3)  # blue is never the largest


def test_the_check_of_the_device_is_printed_by_rank_0(ranks: Path) -> None:
    first, second = ((ranks / f"logs/worker_{rank}.log").read_text("utf-8") for rank in (0, 1))
    assert "exchange: sums and rows of 2 devices are right" in first
    assert "2 device(s) x 2 images x 1 accumulated" in first
    shown = figures(first)
    per_second = 2 * 2 * 1000 / shown["milliseconds per step"][0]
    assert shown["images per second"][0] == pytest.approx(per_second, rel=0.01)
    assert figures(second) == {}


def test_ascends_norm_counts_as_a_batch_norm() -> None:
    assert issubclass(AscendSyncNorm, nn.BatchNorm2d)
    assert AscendSyncNorm.__mro__[1] is nn.SyncBatchNorm


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_script_explains_itself(script: Path) -> None:
    told = launch([script, "--help"])
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"usage: {script}")
    bare = launch([script])
    assert (bare.returncode, bare.stdout) == (2, "")
    assert shutil.which("bash") is not None
    assert launch(["bash", "-n", script]).returncode == 0

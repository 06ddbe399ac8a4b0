"""From a foreign file to a prediction, a score and a training, with the user's commands."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.settings import take_over_variants
from mindyolo_v4.commands import predict as predict_command
from mindyolo_v4.commands import test as test_command
from mindyolo_v4.commands import train as train_command
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.models.topology import layers_of, parameter_shapes
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from mindyolo_v4.weights.darknet_cfg import write_cfg
from mindyolo_v4.weights.mapping import export_tensors
from mindyolo_v4.weights.mindspore_zoo import CLASSIFIER as ZOO
from tests.support.runs import command
from tests.weights.foreign import write_mindspore
from tests.weights.narrow import CLASSIFIER, TINY, random_tensors, run, write_own

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = "circle\nsquare\ntriangle\nstar\n"
RECIPE = """
model: {{architecture: yolov4, width: 0.05, depth: 0.1, cpu_fused: "off"}}
data: {{format: yolo, root: {root}, train: images/train, img_size: 64, num_workers: 1,
       max_truths: 20, augment: {{mosaic: none}}}}
train: {{epochs: 1, per_batch_size: 2, max_steps: 1}}
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(root, SceneSet(train=2, val=2, img_size=128, seed=0))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return darknet files of a narrow yolov4-tiny in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("some one's")
    source = write_own(folder / "source.ckpt", TINY, classes=4)
    assert run("darknet", source, folder / "net.weights") == 0
    (folder / "net.cfg").write_text(write_cfg(TINY, 4, 64, letterbox=False))
    (folder / "my.names").write_text(NAMES)
    source.unlink()
    return folder / "net.weights"


@pytest.fixture(scope="module")
def recipe(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "narrow.yaml"
    path.write_text(RECIPE.format(root=scenes))
    return path


@pytest.mark.parametrize("main", [predict_command.main, test_command.main, train_command.main])
def test_a_foreign_file_ends_in_the_command_that_converts_it(
    main: Callable,
    weights: Path,
    scenes: Path,
    recipe: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    more = (
        ["--source", scenes / "images/val"]
        if main is predict_command.main
        else ["--config", recipe]
    )
    assert command(main, "--weight", weights, "--save_dir", tmp_path / "run", *more) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    target = weights.with_suffix(".ckpt")
    expected = shlex.join(["python", "-m", "convert.darknet", str(weights), str(target)])
    assert line == f"error: {weights}: is a darknet .weights file; convert it: {expected}"
    assert not (tmp_path / "run").exists()


def test_the_printed_command_works_when_pasted(
    weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(predict_command.main, "--weight", weights, "--source", weights.parent) == 2
    (weights.parent / "photo.jpg").touch()
    assert command(predict_command.main, "--weight", weights, "--source", weights.parent) == 2
    printed = capfd.readouterr().err.strip().splitlines()[-1].split("convert it: ")[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["/bin/sh", "-c", printed], cwd=REPOSITORY, env={**os.environ, "PATH": path}, check=True
    )
    converted = weights.with_suffix(".ckpt")
    assert Checkpoint.open(converted).card.source_format == "darknet"
    # A second time, what is there already is left alone.
    assert command(predict_command.main, "--weight", weights, "--source", weights.parent) == 2
    assert f"{weights.stem}_converted.ckpt" in capfd.readouterr().err
    converted.unlink()


def test_a_converted_detector_needs_nothing_else(
    weights: Path, scenes: Path, tmp_path: Path
) -> None:
    ours = tmp_path / "ours.ckpt"
    assert run("darknet", weights, ours, "--names", weights.with_name("my.names")) == 0
    options = ("--weight", ours, "--source", scenes / "images/val", "--conf_thres", "0.01")
    assert command(predict_command.main, *options, "--save_dir", tmp_path / "p") == 0
    listed = json.loads((tmp_path / "p/predictions.json").read_text())
    assert len(listed) == 2 and all(entry["detections"] for entry in listed)
    assert {found["class_name"] for entry in listed for found in entry["detections"]} <= set(
        NAMES.split()
    )
    data = (
        "--data.format",
        "yolo",
        "--data_dir",
        scenes,
        "--data.val",
        "images/val",
        "--data.num_workers",
        1,
    )
    assert command(test_command.main, "--weight", ours, *data, "--save_dir", tmp_path / "t") == 0
    assert json.loads((tmp_path / "t/metrics.json").read_text())["images"] == 2


def test_classes_of_another_data_set_are_one_line(
    weights: Path, scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours.ckpt"
    assert run("darknet", weights, ours) == 0
    data = (
        "--data.format",
        "yolo",
        "--data_dir",
        scenes,
        "--data.val",
        "images/val",
        "--data.names",
        "[a,b,c,d]",
    )
    assert command(test_command.main, "--weight", ours, *data, "--save_dir", tmp_path / "t") == 2
    last_line = capfd.readouterr().err.strip().splitlines()[-1]
    assert last_line.startswith(f"error: {ours}: its 4 class names are not the 4 of ")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a converted classifier of the zoo: padding `same`, ImageNet's input, own epsilon."""
    folder = tmp_path_factory.mktemp("backbone")
    tensors = random_tensors(parameter_shapes(CLASSIFIER, 5))
    write_mindspore(folder / "zoo.ckpt", export_tensors(tensors, ZOO, layers_of(CLASSIFIER, 5), ""))
    assert run("mindspore_zoo", folder / "zoo.ckpt", folder / "ours.ckpt") == 0
    return folder / "ours.ckpt"


def taken_over(weight: Path, recipe: Path, *overrides: tuple[str, str]) -> tuple[Config, list[str]]:
    tree = read_tree(recipe, overrides)
    return take_over_variants(build_config(tree), tree, Checkpoint.open(weight))


def test_training_takes_over_what_the_backbone_was_trained_with(
    backbone: Path, recipe: Path
) -> None:
    config, told = taken_over(backbone, recipe)
    values = [
        "model.stride2_padding: same",
        "data.mean: [123.675, 116.28, 103.53]",
        "data.std: [58.395, 57.12, 57.375]",
    ]
    assert told == [f"taken over from {backbone}: {value}" for value in values]
    assert (config.model.stride2_padding, config.data.mean[0]) == ("same", 123.675)


def test_a_configuration_that_names_them_wins(backbone: Path, recipe: Path) -> None:
    named = (("model.stride2_padding", "symmetric"), ("data.mean", "[0, 0, 0]"))
    config, told = taken_over(backbone, recipe, *named)
    assert (config.model.stride2_padding, config.data.mean) == ("symmetric", (0.0, 0.0, 0.0))
    assert told == [f"taken over from {backbone}: data.std: [58.395, 57.12, 57.375]"]


def test_epsilon_and_activation_are_taken_over(recipe: Path, tmp_path: Path) -> None:
    """Of timm's weights, say, or mindyolo's; from the backbone alone."""
    model = replace(CLASSIFIER, bn_eps=1e-3, backbone_activation="leaky001")
    tensors = random_tensors(parameter_shapes(model, 3))
    part = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
    start = write_own(tmp_path / "start.ckpt", model, tensors=part, class_names=())
    config, told = taken_over(start, recipe)
    assert (config.model.bn_eps, config.model.backbone_activation) == (1e-3, "leaky001")
    values = ["model.bn_eps: 0.001", "model.backbone_activation: leaky001"]
    assert told == [f"taken over from {start}: {value}" for value in values]


@pytest.mark.parametrize("main", [predict_command.main, test_command.main])
def test_a_part_of_a_network_cannot_be_used_alone(
    main: Callable, weights: Path, scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = [layer for layer in layers_of(TINY, 4) if layer.idx < 29]
    part = tmp_path / "net.conv.29"
    part.write_bytes(weights.read_bytes()[: 20 + 4 * sum(layer.floats for layer in layers)])
    (tmp_path / "net.cfg").write_text(weights.with_suffix(".cfg").read_text())
    assert run("darknet", part, tmp_path / "part.ckpt") == 0
    source = ["--source", scenes / "images/val"] if main is predict_command.main else []
    capfd.readouterr()
    assert (
        command(main, "--weight", tmp_path / "part.ckpt", *source, "--save_dir", tmp_path / "x")
        == 2
    )
    complaint = "holds the beginning of a network only, without a head: training can start from it"
    assert (
        capfd.readouterr().err.strip().splitlines()[-1]
        == f"error: {tmp_path / 'part.ckpt'}: {complaint}"
    )

"""PyTorch projects' files there and back, in every layout and wrapper that they come in."""

import builtins
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import layers_of, parameter_shapes
from mindyolo_v4.weights.mapping import export_tensors
from mindyolo_v4.weights.schemes import Scheme
from mindyolo_v4.weights.torch_schemes import DEEPSPARK, TIANXIAOMO, TIMM, WONGKINYIU
from tests.weights import torch_files
from tests.weights.narrow import (
    CLASSIFIER,
    DETECTOR,
    Tensors,
    assert_same,
    card_of,
    random_tensors,
    read_tensors,
    run,
    write_own,
)

# The names of these projects count the sections of the full depth, or have numbers for its blocks.
FULL_DEPTH = ModelConfig(width=0.02)


def theirs(
    scheme: Scheme, model: ModelConfig, counter: int | None = 1234, classes: int = 3
) -> Tensors:
    """Return a network of ours with another project's names, and counters if `counter` is given."""
    values = random_tensors(parameter_shapes(model, classes))
    found = export_tensors(values, scheme, layers_of(model, classes), "")
    norms = [name.removesuffix("running_mean") for name in found if name.endswith("running_mean")]
    counters = (
        {}
        if counter is None
        else {f"{norm}num_batches_tracked": np.array(counter, np.int64) for norm in norms}
    )
    return found | counters


def as_safetensors(path: Path, tensors: Tensors) -> Path:
    path = path.with_suffix(".safetensors")
    safetensors.numpy.save_file(tensors, path)
    return path


def as_zip(path: Path, tensors: Tensors) -> Path:
    return torch_files.write_zip(path.with_suffix(".pth"), tensors)


def as_legacy(path: Path, tensors: Tensors) -> Path:
    return torch_files.write_legacy(path.with_suffix(".pth"), tensors)


@pytest.mark.parametrize("write", [as_safetensors, as_zip, as_legacy])
@pytest.mark.parametrize("counter", [1234, 0, None])
def test_tianxiaomo_there_and_back(
    write: Callable[[Path, Tensors], Path], counter: int | None, tmp_path: Path
) -> None:
    tensors = theirs(TIANXIAOMO, DETECTOR, counter)
    source = write(tmp_path / "theirs", tensors)
    assert run("pytorch", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, card.source_format, card.preprocessing.resize) == (
        "yolov4",
        "tianxiaomo",
        "stretch",
    )
    assert_same(read_tensors(tmp_path / "ours.ckpt"), random_tensors(parameter_shapes(DETECTOR, 3)))
    assert run("pytorch", tmp_path / "ours.ckpt", tmp_path / "back.safetensors") == 0
    assert_same(safetensors.numpy.load_file(tmp_path / "back.safetensors"), tensors)


def test_counters_that_differ_are_kept(tmp_path: Path) -> None:
    tensors = theirs(TIANXIAOMO, DETECTOR)
    tensors["down2.conv1.conv.1.num_batches_tracked"] = np.array(5, np.int64)
    del tensors["down3.conv1.conv.1.num_batches_tracked"]
    misspelt = {name.replace("neck.", "neek."): value for name, value in tensors.items()}
    assert (
        run("pytorch", as_safetensors(tmp_path / "theirs", misspelt), tmp_path / "ours.ckpt") == 0
    )
    assert run("pytorch", tmp_path / "ours.ckpt", tmp_path / "back.safetensors") == 0
    assert_same(safetensors.numpy.load_file(tmp_path / "back.safetensors"), tensors)


def test_a_network_trained_here_has_counted_nothing(tmp_path: Path) -> None:
    source = write_own(tmp_path / "ours.ckpt", replace(DETECTOR, bn_eps=1e-3))
    assert run("pytorch", source, tmp_path / "out.safetensors") == 0
    found = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    assert {int(v) for name, v in found.items() if name.endswith("num_batches_tracked")} == {0}
    expected = theirs(TIANXIAOMO, DETECTOR, 0)
    assert sorted(found) == sorted(expected)
    name = "down1.conv1.conv.1.running_var"
    np.testing.assert_allclose(found[name], expected[name] + 0.00099, rtol=0, atol=1e-7)


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod."])
@pytest.mark.parametrize("write", [as_safetensors, as_zip])
def test_misspelt_and_wrapped_names(
    write: Callable[[Path, Tensors], Path], prefix: str, tmp_path: Path
) -> None:
    tensors = {
        prefix + name.replace("neck.", "neek."): value
        for name, value in theirs(TIANXIAOMO, DETECTOR).items()
    }
    assert run("pytorch", write(tmp_path / "theirs", tensors), tmp_path / "ours.ckpt") == 0
    assert_same(read_tensors(tmp_path / "ours.ckpt"), random_tensors(parameter_shapes(DETECTOR, 3)))


@pytest.mark.parametrize("write", [torch_files.write_zip, torch_files.write_legacy])
def test_wongkinyius_checkpoint_with_its_optimizer(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    tensors = theirs(WONGKINYIU, FULL_DEPTH)
    momentum = torch_files.Part(np.full(4, 9, np.float32))

    def checkpoint(state: OrderedDict) -> dict[str, object]:
        optimizer = {
            "state": {0: {"momentum_buffer": momentum}},
            "param_groups": [{"lr": 0.01, "params": [0]}],
        }
        return {
            "epoch": 299,
            "best_fitness": 0.6,
            "training_results": None,
            "model": state,
            "optimizer": optimizer,
        }

    source = write(tmp_path / "best.pt", tensors, checkpoint)
    assert run("pytorch", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.model.bn_eps, card.model.box_decode, card.model.scale_x_y) == (
        1e-4,
        "square",
        (2.0, 2.0, 2.0),
    )
    assert (card.preprocessing.resize, card.img_size) == ("letterbox", 640)
    assert_same(
        read_tensors(tmp_path / "ours.ckpt"), random_tensors(parameter_shapes(FULL_DEPTH, 3))
    )


@pytest.mark.parametrize(
    ("scheme", "activation", "crop", "size"),
    [(TIMM, "leaky001", 0.887, 256), (DEEPSPARK, None, 0.875, 224)],
)
@pytest.mark.parametrize("with_head", [True, False])
def test_classifiers_and_their_backbones(
    scheme: Scheme, activation: str | None, crop: float, size: int, with_head: bool, tmp_path: Path
) -> None:
    model = replace(CLASSIFIER, depth=1.0, width=0.02)
    tensors = theirs(scheme, model)
    expected = random_tensors(parameter_shapes(model, 3))
    if not with_head:
        tensors = {name: value for name, value in tensors.items() if "fc." not in name}
        expected = {name: value for name, value in expected.items() if "fc." not in name}
    assert run("pytorch", as_zip(tmp_path / "theirs", tensors), tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.task, len(card.class_names), card.img_size) == (
        "classify",
        3 if with_head else 0,
        size,
    )
    assert (card.model.backbone_activation, card.preprocessing.crop_fraction) == (activation, crop)
    assert card.preprocessing.mean == (123.675, 116.28, 103.53)
    assert_same(read_tensors(tmp_path / "ours.ckpt"), expected)


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    exact: dict[str, NDArray] = {
        name: value if value.dtype.kind == "i" else value.astype(np.float16)
        for name, value in theirs(TIANXIAOMO, DETECTOR).items()
    }
    for write in (as_safetensors, as_zip):
        assert run("pytorch", write(tmp_path / "theirs", exact), tmp_path / "ours.ckpt") == 0
        ours = read_tensors(tmp_path / "ours.ckpt")["backbone.stem.conv.weight"]
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, exact["down1.conv1.conv.0.weight"].astype(np.float32))


@pytest.mark.parametrize(
    ("model", "name", "complaint"),
    [
        (
            replace(DETECTOR, architecture="yolov4-silu"),
            "out.pth",
            "is not a network of Tianxiaomo's pytorch-YOLOv4",
        ),
        (replace(DETECTOR, topdown_kernel=3), "out.safetensors", "differs in model.topdown_kernel"),
        (DETECTOR, "out.onnx", "not a PyTorch format (got .onnx, expected .safetensors or .pth)"),
        (DETECTOR, "out.pth", "out.pth: PyTorch is not installed"),
    ],
)
def test_what_cannot_be_written(
    model: ModelConfig,
    name: str,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = builtins.__import__

    def without_torch(module: str, *rest: object, **named: object) -> object:
        if module == "torch":
            raise ImportError(module)
        return known(module, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_torch)
    source = write_own(tmp_path / "ours.ckpt", model)
    assert run("pytorch", source, tmp_path / name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert [path.name for path in tmp_path.iterdir()] == ["ours.ckpt"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"head.conv2.conv.0.bias": None}, "missing 1: head.conv2.conv.0.bias"),
        ({"head.extra": np.zeros(1, np.float32)}, "unexpected 1: head.extra"),
        (
            {"neck.conv1.conv.0.weight": np.zeros((2, 2, 1, 1), np.float32)},
            "misshapen 1: neck.conv1.conv.0.weight (2",
        ),
        (
            {"neck.conv1.conv.1.bias": np.zeros(32, np.int32)},
            "neck.conv1.conv.1.bias is not of floating point",
        ),
        ({"head.conv18.conv.0.weight": np.zeros((17, 56, 1, 1), np.float32)}, "no detector's head"),
        (
            {"down4.resblock.module_list.0.0.conv.0.weight": None},
            "no depth multiple has its residual blocks",
        ),
        ({"down5.conv1.conv.0.weight": None}, "has no backbone of Tianxiaomo's pytorch-YOLOv4"),
        ({"down1.conv1.conv.0.weight": None}, "no PyTorch weights that are known here"),
    ],
)
def test_misfits_are_named(
    change: dict[str, NDArray | None],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = {
        name: v for name, v in (theirs(TIANXIAOMO, DETECTOR) | change).items() if v is not None
    }
    source = as_safetensors(tmp_path / "theirs", tensors)
    assert run("pytorch", source, tmp_path / "ours.ckpt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {source}: ") and complaint in line
    assert not (tmp_path / "ours.ckpt").exists()

"""What `python -m convert.inspect` says of every format, whole and cut short."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import layers_of, parameter_shapes
from mindyolo_v4.weights.darknet_cfg import write_cfg
from mindyolo_v4.weights.mapping import export_tensors
from mindyolo_v4.weights.mindspore_zoo import CLASSIFIER as ZOO
from mindyolo_v4.weights.mindyolo import SCHEME as MINDYOLO
from mindyolo_v4.weights.torch_schemes import DEEPSPARK, TIANXIAOMO, TIMM, WONGKINYIU
from tests.weights import torch_files
from tests.weights.foreign import write_mindspore
from tests.weights.narrow import CLASSIFIER, DETECTOR, TINY, random_tensors, run, write_own

KEYS = {"format", "architecture", "classes", "parameters", "sha256", "truncated_at"}
DEEP = replace(CLASSIFIER, depth=1.0, width=0.02)


def inspect(path: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    """Return what the command prints as JSON, after checking what holds for any file."""
    capsys.readouterr()
    assert run("inspect", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == KEYS | {"description", "width", "depth", "command", "cfg", "assumed"}
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert run("inspect", path) == 0
    assert capsys.readouterr().out.startswith(f"{path}: {found['description']}\n")
    return found


def trainable(model: ModelConfig, classes: int = 3) -> int:
    shapes = parameter_shapes(model, classes)
    return sum(int(np.prod(shape)) for name, shape in shapes.items() if "moving_" not in name)


def sparse(path: Path, size: int) -> Path:
    """Make a darknet file whose values are zeros that take no room."""
    with path.open("wb") as file:
        file.write(np.array([0, 2, 5, 0, 0], "<i4").tobytes())
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (257_717_640, ("yolov4", 80, 64_363_101, None)),
        (24_251_276, ("yolov4-tiny", 80, 6_056_606, None)),
        (110_710_068, ("cspdarknet53", 1000, 27_642_184, None)),
        (170_038_676, ("yolov4", None, None, "before section 137")),
        (19_789_716, ("yolov4-tiny", None, None, "before section 29")),
        (211_944_840, ("yolov4-csp", 80, 52_921_437, None)),
        (146_548_116, ("yolov4-csp", None, None, "before section 142")),
        (399_388_168, ("yolov4x-mish", 80, 99_751_053, None)),
        (25_336_200, ("yolov4-tiny-3l", 80, 6_327_453, None)),
        (106_610_068, ("cspdarknet53", None, None, "before section 105")),
        (
            100_000_000,
            (
                None,
                None,
                None,
                "inside section 100 (100000000 of 257717640 bytes), if it is yolov4",
            ),
        ),
        (20, (None, None, None, "before section 0 (20 of 257717640 bytes), if it is yolov4")),
    ],
)
def test_darknet_files_by_their_length(
    size: int, expected: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes are those that darknet writes, counts the published numbers of trainable values."""
    found = inspect(sparse(tmp_path / "net.weights", size), capsys)
    architecture, classes, parameters, cut = expected
    assert (found["format"], found["architecture"], found["classes"]) == (
        "darknet",
        architecture,
        classes,
    )
    assert found["truncated_at"] == cut
    if parameters is not None:
        assert found["parameters"] == parameters
    assert (
        found["command"] == f"python -m convert.darknet {tmp_path}/net.weights {tmp_path}/net.ckpt"
    )


def test_a_narrow_darknet_file_with_its_cfg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.cfg").write_text(write_cfg(TINY, 3, 96, letterbox=False))
    layers = layers_of(TINY, 3)
    whole = 20 + 4 * sum(layer.floats for layer in layers)
    border = 20 + 4 * sum(layer.floats for layer in layers[:7])
    assert [layer.idx for layer in layers[6:8]] == [10, 12]
    for size, cut in (
        (whole, None),
        (border, f"before section 11 ({border} of {whole} bytes)"),
        (border + 8, f"inside section 12 ({border + 8} of {whole} bytes)"),
        (whole + 8, "not cut: 8 bytes too many"),
    ):
        found = inspect(sparse(tmp_path / "net.weights", size), capsys)
        assert (found["architecture"], found["classes"], found["parameters"]) == (
            "yolov4-tiny",
            3,
            trainable(TINY),
        )
        assert (found["width"], found["truncated_at"]) == (TINY.width, cut)
    header = tmp_path / "header.weights"
    header.write_bytes((tmp_path / "net.weights").read_bytes()[:12])
    assert inspect(header, capsys)["truncated_at"].startswith(
        "is cut short inside its header (got 12 bytes"
    )


def named(scheme, model: ModelConfig, write: Callable, name: str, folder: Path) -> Path:
    values = random_tensors(parameter_shapes(model, 3))
    tensors = {
        n: np.array(v) for n, v in export_tensors(values, scheme, layers_of(model, 3), "").items()
    }
    write(folder / name, tensors)
    return folder / name


def save_safetensors(path: Path, tensors: dict) -> None:
    safetensors.numpy.save_file(tensors, path)


FORMATS = {
    "zoo": (ZOO, CLASSIFIER, write_mindspore, "a.ckpt", "mindspore_zoo"),
    "mindyolo": (
        MINDYOLO,
        replace(DETECTOR, topdown_kernel=3),
        write_mindspore,
        "a.ckpt",
        "mindyolo",
    ),
    "tianxiaomo": (TIANXIAOMO, DETECTOR, torch_files.write_legacy, "a.pth", "pytorch"),
    "wongkinyiu": (WONGKINYIU, ModelConfig(width=0.02), torch_files.write_zip, "a.pt", "pytorch"),
    "timm": (TIMM, DEEP, save_safetensors, "a.safetensors", "pytorch"),
    "deepspark": (DEEPSPARK, DEEP, torch_files.write_zip, "a.pth", "pytorch"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_named_formats(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheme, model, write, file, module = FORMATS[name]
    path = named(scheme, model, write, file, tmp_path)
    found = inspect(path, capsys)
    assert (found["format"], found["architecture"], found["classes"]) == (
        module,
        model.architecture,
        3,
    )
    assert (found["parameters"], found["truncated_at"]) == (trainable(model), None)
    assert found["command"].startswith(f"python -m convert.{module} {path} {tmp_path}/a")
    size = path.stat().st_size * 9 // 10
    path.write_bytes(path.read_bytes()[:size])
    found = inspect(path, capsys)
    assert "cut short" in found["truncated_at"] and f"{size} bytes" in found["truncated_at"]


@pytest.mark.parametrize(
    ("name", "lost", "cut"),
    [
        ("zoo", 3, "1 tensors are missing, the first backbone.conv27.0.weight"),
        ("mindyolo", 1, "not whole: has no detector's head of mindyolo's YOLOv4"),
        ("mindyolo", 3, "1 tensors are missing, the first model.model.65.2.conv2.conv.weight"),
    ],
)
def test_a_checkpoint_cut_at_a_border(
    name: str, lost: int, cut: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scheme, model, *_, module = FORMATS[name]
    tensors = export_tensors(
        random_tensors(parameter_shapes(model, 3)), scheme, layers_of(model, 3), ""
    )
    kept = list(tensors)[:-lost]
    if lost == 3 and name == "mindyolo":  # the head's last two stay
        kept += list(tensors)[-2:]
    write_mindspore(tmp_path / "a.ckpt", {key: tensors[key] for key in kept})
    found = inspect(tmp_path / "a.ckpt", capsys)
    assert (found["format"], found["truncated_at"]) == (module, cut)


@pytest.mark.parametrize("model", [DETECTOR, TINY, CLASSIFIER])
def test_our_own(model: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_own(tmp_path / "ours.ckpt", model)
    found = inspect(source, capsys)
    assert (found["format"], found["architecture"], found["classes"]) == (
        "mindyolo_v4",
        model.architecture,
        3,
    )
    assert (found["parameters"], found["truncated_at"], found["command"]) == (
        trainable(model),
        None,
        None,
    )
    assert run("safetensors", source, tmp_path / "ours.safetensors") == 0
    found = inspect(tmp_path / "ours.safetensors", capsys)
    assert (found["format"], found["architecture"]) == ("safetensors", model.architecture)
    assert (found["classes"], found["parameters"]) == (3, trainable(model))
    assert found["command"].startswith("python -m convert.safetensors ")
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    assert f"is cut short: {len(content) // 2} bytes" in inspect(source, capsys)["truncated_at"]
    write_mindspore(
        source, random_tensors(parameter_shapes(model, 3))
    )  # as cut at the border before the card
    found = inspect(source, capsys)
    assert found["truncated_at"] == "before the card" and "without its card" in found["description"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"<html>", "html"),
        (b"hello", "text"),
        (bytes(100), "unknown"),
        (b"\x08\x08\x12\x07pytorch", "onnx"),
        (b"\n<" + bytes(2), "html"),
    ],
)
def test_no_weights_at_all(
    content: bytes, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    found = inspect(tmp_path / "file", capsys)
    assert found["format"] == kind
    assert {key for key, value in found.items() if value is not None} == {
        "format",
        "sha256",
        "description",
    }


def test_what_cannot_be_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = torch_files.Call(torch_files.Name("os", "system"), ("true",))
    torch_files.write_zip(
        tmp_path / "bad.pth", {"a": np.zeros(2, np.float32)}, lambda state: {"x": call}
    )
    for path, complaint in (
        (tmp_path / "no", "no: no such file"),
        (tmp_path, f"{tmp_path}: a folder, not a file"),
        (tmp_path / "bad.pth", "bad.pth: would run code when loaded (got os.system"),
    ):
        assert run("inspect", path) == run("inspect", path, "--json") == 2
        line, same = capsys.readouterr().err.splitlines()
        assert line == same and complaint in line

"""OpenCV's DNN as judge of our darknet files, through the command that users run."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.weights.verify import largest_difference
from tests.weights.narrow import (
    CLASSIFIER,
    CSP,
    DETECTOR,
    TINY,
    TINY_3L,
    X_MISH,
    random_tensors,
    run,
    write_own,
)

MODELS = {
    "yolov4": DETECTOR,
    "silu": replace(DETECTOR, architecture="yolov4-silu"),
    "tiny": TINY,
    "csp": CSP,
    "x-mish": X_MISH,
    "tiny-3l": TINY_3L,
    "classifier": CLASSIFIER,
    "all variants": replace(
        DETECTOR, topdown_kernel=3, box_decode="square", scale_x_y=(2.0, 2.0, 2.0), bn_eps=1e-4
    ),
}


_FAST = ("tiny", "tiny-3l", "classifier")


def exported(folder: Path, model: ModelConfig) -> tuple[Path, Path, Path]:
    """Return a checkpoint of ours and the darknet files made from it."""
    source = write_own(folder / "ours.ckpt", model, img_size=96)
    assert run("darknet", source, folder / "net.weights") == 0
    return source, folder / "net.cfg", folder / "net.weights"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _FAST else pytest.mark.slow) for name in MODELS]
)
def test_opencv_computes_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, cfg, weights = exported(tmp_path, MODELS[name])
    assert run("verify", source, "--darknet", cfg, weights) == 0
    *outputs, verdict = capsys.readouterr().out.splitlines()[1:]
    heads = [line for line in outputs if line.startswith("conv_")]
    expected = {"classifier": ["1x3x1x1"], "tiny": ["1x24x6x6", "1x24x3x3"]}
    shapes = expected.get(name, ["1x24x12x12", "1x24x6x6", "1x24x3x3"])
    assert [line.split()[1].rstrip(":") for line in heads] == shapes
    assert len(outputs) == len(heads) * (1 if name == "classifier" else 2)
    assert verdict.startswith("equal: ") and verdict.endswith("input 96 x 96")


def test_one_altered_weight_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, cfg, weights = exported(tmp_path, TINY)
    values = np.fromfile(weights, "<f4")
    values[-1] += 0.5  # of the last prediction
    values.tofile(weights)
    picture = tmp_path / "noise.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    arguments = ("verify", source, "--darknet", cfg, weights, "--img_size", 64, "--image", picture)
    assert run(*arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("DIFFERENT: ") and lines[-1].endswith("input 64 x 64")
    ratios = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("conv_")]
    assert (
        ratios[0] > 1e-2 and ratios[1] < 1e-4
    )  # /16 comes first, and its prediction is last in the file
    assert run(*arguments, "--tolerance", 10) == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ckpt": "no.ckpt"}, "no.ckpt: no such file"),
        (
            {"ckpt": "net.weights"},
            "net.weights: is a darknet .weights file; convert it: python -m convert.darknet",
        ),
        ({"cfg": "no.cfg"}, "no.cfg: no such file"),
        ({"cfg": "."}, "a folder, not a file"),
        ({"weights": "no.weights"}, "no.weights: no such file"),
        ({"weights": "cut.weights"}, "cut.weights: is not as long as the network of"),
        ({"weights": "long.weights"}, "long.weights: is not as long as the network of"),
        ({"weights": "ours.ckpt"}, "ours.ckpt: no darknet .weights file"),
        ({"cfg": "other.cfg"}, "other.cfg:"),
        ({"cfg": "ours.ckpt"}, "ours.ckpt"),
        (
            {"ckpt": "wider.ckpt"},
            "net.cfg: describes another network than the checkpoint's (got yolov4-tiny, 3 classes",
        ),
        ({"--img_size": "100"}, "--img_size: not a multiple of 32 (got 100)"),
        ({"--img_size": "0"}, "--img_size: out of range (got 0, expected >= 32)"),
        ({"--img_size": "x"}, "argument --img_size: invalid int value: 'x'"),
        ({"--tolerance": "-1"}, "--tolerance: must be positive (got -1.0)"),
        ({"--tolerance": "nan"}, "--tolerance: must be positive (got nan)"),
        ({"--image": "net.cfg"}, "net.cfg: no readable image"),
        ({"--image": "no.png"}, "no.png: no readable image"),
    ],
)
def test_wrong_input_is_one_line(
    change: dict[str, str], complaint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, cfg, weights = exported(tmp_path, TINY)
    write_own(tmp_path / "wider.ckpt", DETECTOR)
    (tmp_path / "cut.weights").write_bytes(weights.read_bytes()[:200])
    (tmp_path / "long.weights").write_bytes(weights.read_bytes() + bytes(4))
    (tmp_path / "other.cfg").write_text(cfg.read_text().replace("classes=3", "classes=4", 1))
    capfd.readouterr()
    files = [
        tmp_path / change.get(key, usual)
        for key, usual in (("ckpt", "ours.ckpt"), ("cfg", "net.cfg"))
    ]
    files.append(tmp_path / change.get("weights", "net.weights"))
    options = [
        (key, tmp_path / value if key == "--image" else value)
        for key, value in change.items()
        if "--" in key
    ]
    words = [word for option in options for word in option]
    assert run("verify", files[0], "--darknet", files[1], files[2], *words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ") and complaint in line


def test_a_part_of_a_network_cannot_be_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, cfg, weights = exported(tmp_path, TINY)
    tensors = {
        name: value
        for name, value in random_tensors(parameter_shapes(TINY, 3)).items()
        if "head" not in name
    }
    source = write_own(tmp_path / "part.ckpt", TINY, tensors=tensors, class_names=())
    assert run("verify", source, "--darknet", cfg, weights) == 2
    assert (
        "part.ckpt: holds a part of its network only (got no head.expand5.bn.beta)"
        in capsys.readouterr().err
    )


def test_what_the_cfg_says_otherwise_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The raw outputs are equal, the boxes are not."""
    source, cfg, weights = exported(tmp_path, TINY)
    text = cfg.read_text().replace("10,14, 23,27", "11,14, 23,27").replace("width=96", "width=128")
    cfg.write_text(text.replace("mask=1,2,3", "mask=0,1,2"))
    assert run("verify", source, "--darknet", cfg, weights) == 1
    *lines, verdict = capsys.readouterr().out.splitlines()
    named = [line.split(":")[0] for line in lines if "in the checkpoint, " in line]
    assert named == ["input size", "anchors", "masks"]
    ratios = {line.split()[0]: float(line.split()[-1]) for line in lines if " = " in line}
    assert ratios["conv_29"] < 1e-4 and ratios["conv_36"] < 1e-4  # raw
    assert ratios["yolo_37"] > 1e-2 and ratios["yolo_30"] < 1e-4  # decoded: stride 16 has the masks
    assert verdict.startswith("DIFFERENT: ")


def test_differences_are_parts_of_the_largest_magnitude(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {"a": np.array([1.0, -4.0]), "b": np.array([2.0])}
    found = {"a": np.array([1.0, -4.4]), "b": np.array([2.1])}
    assert largest_difference(found, expected) == pytest.approx(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "a 2: largest difference 0.4 of 4 = 1.0e-01",
        "b 1: largest difference 0.1 of 2 = 5.0e-02",
    ]


@pytest.mark.parametrize("values", [np.array([np.nan, 1.0]), np.zeros(3), np.zeros((1, 2))])
def test_what_cannot_be_compared_is_different(values: np.ndarray) -> None:
    assert largest_difference({"a": values}, {"a": np.array([1.0, 2.0])}) == np.inf


def test_an_epsilon_too_small_for_opencv_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, cfg, weights = exported(tmp_path, replace(TINY, bn_eps=1e-6))
    assert run("verify", source, "--darknet", cfg, weights) == 2
    assert "model.bn_eps: cannot be compared with OpenCV" in capsys.readouterr().err

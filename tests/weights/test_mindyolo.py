"""Checkpoints of mindyolo, converted, against what mindyolo itself computed; and the way back."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from mindyolo_v4.anchors import decode_boxes, sigmoid
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import parameter_shapes
from tests.models.golden import golden_image, parameter_values
from tests.weights.foreign import write_mindspore
from tests.weights.narrow import (
    CLASSIFIER,
    DETECTOR,
    TINY,
    Tensors,
    assert_same,
    build,
    card_of,
    random_tensors,
    read_tensors,
    run,
    write_own,
)

TOLERANCE = 1e-4  # of each map's largest magnitude
SWAPPED = ("neck.topdown4.0", "neck.topdown3.0")  # mindyolo joins [upsampled, lateral]


def decoded(raw: NDArray, card: Card, level: int) -> NDArray:
    """Decode a raw map (1, A(5+C), H, W) to (1, H, W, A, 5+C): centre, size in pixels, scores."""
    anchors = card.model.anchor_set.levels[level]
    _, channels, height, width = raw.shape
    cells = raw.reshape(1, 3, channels // 3, height, width).transpose(0, 3, 4, 1, 2)
    rows, columns, places = (axis.ravel() for axis in np.indices((height, width, 3)))
    flat = cells.reshape(-1, channels // 3)
    boxes = decode_boxes(
        flat[:, :4], columns, rows, np.array(anchors.anchors_wh_px, np.float32)[places], anchors
    )
    return np.concatenate([boxes, sigmoid(flat[:, 4:])], axis=-1).reshape(cells.shape)


def differences(path: Path, reference: Path) -> list[float]:
    """Return the largest difference of each raw and decoded map by the map's largest magnitude."""
    card, found = card_of(path), []
    maps = build(path)(golden_image(64, 96))
    with np.load(reference) as expected:
        for level, (stride, raw_map) in enumerate(zip((8, 16, 32), maps, strict=True)):
            raw = raw_map.asnumpy()
            pairs = (
                (raw, f"raw_stride{stride}"),
                (decoded(raw, card, level), f"decoded_stride{stride}"),
            )
            for ours, name in pairs:
                theirs = expected[name]
                assert ours.shape == theirs.shape
                found.append(float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return found


def rebuilt(parameters: Path) -> Tensors:
    """Return a checkpoint's tensors by the rule that comes with the parameter lists."""
    tensors, start = {}, 0
    for name, shape in json.loads(parameters.read_text()):
        tensors[name] = parameter_values(name, tuple(shape), start)
        start += tensors[name].size
    return tensors


@pytest.fixture(scope="module")
def narrow_file(data_root: Path) -> Path:
    return data_root / "mindyolo_ref" / "mish_w025_nc3.ckpt"


@pytest.mark.slow
def test_a_checkpoint_that_mindyolo_wrote(
    narrow_file: Path, tmp_path: Path, pynative_mode: None
) -> None:
    target = tmp_path / "ours.ckpt"
    assert run("mindyolo", narrow_file, target) == 0
    card = card_of(target)
    assert (card.architecture, card.class_names, card.img_size) == ("yolov4", ("0", "1", "2"), 608)
    assert (card.model.width, card.model.topdown_kernel, card.model.bn_eps) == (0.25, 3, 1e-3)
    assert card.preprocessing.resize == "letterbox"
    found = differences(target, narrow_file.with_suffix(".npz"))
    assert len(found) == 6 and max(found) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "options"), [("mish_w1_nc80", ()), ("silu_w1_nc80", ("--arch", "yolov4-silu"))]
)
def test_full_size_rebuilt(
    tag: str, options: tuple, data_root: Path, tmp_path: Path, pynative_mode: None
) -> None:
    reference = data_root / "mindyolo_ref"
    write_mindspore(tmp_path / "theirs.ckpt", rebuilt(reference / f"{tag}_parameters.json"))
    assert run("mindyolo", tmp_path / "theirs.ckpt", tmp_path / "ours.ckpt", *options) == 0
    assert card_of(tmp_path / "ours.ckpt").architecture == (options[1] if options else "yolov4")
    assert max(differences(tmp_path / "ours.ckpt", reference / f"{tag}.npz")) < TOLERANCE


def test_their_file_there_and_back(narrow_file: Path, tmp_path: Path) -> None:
    assert run("mindyolo", narrow_file, tmp_path / "ours.ckpt") == 0
    assert run("mindyolo", tmp_path / "ours.ckpt", tmp_path / "back.ckpt") == 0
    assert_same(read_tensors(tmp_path / "back.ckpt"), read_tensors(narrow_file))
    assert (tmp_path / "back.ckpt").stat().st_mode & 0o777 == 0o644


@pytest.mark.slow
def test_our_network_there_and_back(tmp_path: Path, pynative_mode: None) -> None:
    """A 1x1 kernel comes back amid zeros, and variances lower by 1e-3 - 1e-5, some below zero."""
    tensors = random_tensors(parameter_shapes(DETECTOR, 3))
    for name, value in tensors.items():
        if name.endswith("moving_variance"):
            value[::3] = 5e-4
        if name.endswith("gamma"):
            value[::3] *= (
                0.02  # keeps what a division by a small root makes large at a moderate size
            )
    source = write_own(tmp_path / "ours.ckpt", DETECTOR, tensors=tensors)
    assert run("mindyolo", source, tmp_path / "theirs.ckpt") == 0
    theirs = read_tensors(tmp_path / "theirs.ckpt")
    variance = theirs["model.model.0.bn.moving_variance"]
    assert variance[0] == pytest.approx(-0.00049, abs=1e-9)
    assert run("mindyolo", tmp_path / "theirs.ckpt", tmp_path / "back.ckpt") == 0
    back = read_tensors(tmp_path / "back.ckpt")
    for name, value in tensors.items():
        if name.endswith("moving_variance"):
            np.testing.assert_allclose(back[name], value - 0.00099, rtol=0, atol=1e-7)
        elif name == "neck.reduce4.conv.weight":
            np.testing.assert_array_equal(back[name][:, :, 1:2, 1:2], value)
            assert np.count_nonzero(back[name]) == np.count_nonzero(value)
        else:
            np.testing.assert_array_equal(back[name], value)
    swapped = theirs["model.model.49.0.conv1.conv.weight"]
    half = swapped.shape[1] // 2
    np.testing.assert_array_equal(
        swapped[:, :half], tensors["neck.topdown4.0.conv.weight"][:, half:]
    )
    image = Tensor(np.random.default_rng(0).random((1, 3, 64, 64), np.float32))
    for ours, converted in zip(
        build(source)(image), build(tmp_path / "back.ckpt")(image), strict=True
    ):
        expected = ours.asnumpy()
        np.testing.assert_allclose(
            converted.asnumpy(), expected, rtol=0, atol=TOLERANCE * np.abs(expected).max()
        )


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (
            TINY,
            "not a network of mindyolo's YOLOv4 (got yolov4-tiny, expected yolov4 or yolov4-silu)",
        ),
        (CLASSIFIER, "is not a network of mindyolo's YOLOv4 (got cspdarknet53"),
        (replace(DETECTOR, stride2_padding="same"), "differs in model.stride2_padding"),
        (replace(DETECTOR, box_decode="square"), "differs in model.box_decode"),
        (
            replace(DETECTOR, neck_activation="mish"),
            "differs in model.backbone_activation and model.neck_activation",
        ),
    ],
)
def test_what_would_not_be_exact_is_not_written(
    model: ModelConfig, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_own(tmp_path / "ours.ckpt", model)
    assert run("mindyolo", source, tmp_path / "theirs.ckpt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {source}: ") and complaint in line
    assert not (tmp_path / "theirs.ckpt").exists()


def test_anchors_of_ones_own_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anchors = tuple((float(number), number + 1.0) for number in range(1, 10))
    source = write_own(tmp_path / "ours.ckpt", replace(DETECTOR, anchors_wh_px=anchors))
    assert run("mindyolo", source, tmp_path / "theirs.ckpt") == 0
    error = capsys.readouterr().err
    assert "note: the anchors of" in error and "scale_x_y" not in error


@pytest.mark.parametrize(
    ("command", "suffix"),
    [("mindyolo", ".ckpt"), ("mindspore_zoo", ".ckpt"), ("pytorch", ".safetensors")],
)
def test_scales_of_ones_own_are_told(
    command: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of bubbliiing, whose boxes the other programs would decode with theirs."""
    padding: Any = "same" if command == "mindspore_zoo" else "symmetric"
    model = replace(DETECTOR, scale_x_y=(1.0, 1.0, 1.0), stride2_padding=padding)
    source = write_own(tmp_path / "ours.ckpt", model)
    target = tmp_path / f"theirs{suffix}"
    assert run(command, source, target) == 0
    error = capsys.readouterr().err
    assert f"note: scale_x_y of {source} is its own: set it there too: [1.0, 1.0, 1.0]" in error
    assert "the anchors of" not in error


def test_the_published_files_digest(
    narrow_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = narrow_file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for name, warns in (
        ("yolov4-cspdarknet53_320e_map454-64b8506f-910v2.ckpt", True),
        (f"yolov4-cspdarknet53_320e_map454-{digest[:8]}-910v2.ckpt", False),
        (f"yolov4-cspdarknet53_silu_320e_map458-{digest[:8]}.ckpt", False),
        ("best-20240101.ckpt", False),  # a date
    ):
        path = tmp_path / name
        path.symlink_to(narrow_file)
        assert run("mindyolo", path, tmp_path / "ours.ckpt") == 0
        error = capsys.readouterr().err
        assert ("whose SHA-256 begins with 64b8506f" in error and digest[:8] in error) == warns
        assert card_of(tmp_path / "ours.ckpt").source_sha256 == digest
        assert "the file does not tell it from yolov4-silu (--arch)" in error


def test_averaged_weights_are_taken(narrow_file: Path, tmp_path: Path) -> None:
    plain = read_tensors(narrow_file)
    assert run("mindyolo", narrow_file, tmp_path / "expected.ckpt") == 0
    expected = read_tensors(tmp_path / "expected.ckpt")
    wrong = {name: value + 1 for name, value in plain.items()}
    averaged = {f"ema.{name}": value for name, value in plain.items()}
    counters = {
        "global_step": np.array(7, np.int32),
        "momentum": np.float32([0.9]),
        "moments.model.x": np.zeros(3),
    }
    for number, tensors in enumerate((averaged, wrong | averaged, averaged | wrong | counters)):
        write_mindspore(tmp_path / f"{number}.ckpt", tensors)
        assert run("mindyolo", tmp_path / f"{number}.ckpt", tmp_path / "ours.ckpt") == 0
        assert_same(read_tensors(tmp_path / "ours.ckpt"), expected)


@pytest.mark.parametrize(
    ("options", "activation"), [((), None), (("--arch", "yolov4-silu"), "silu")]
)
def test_the_backbone_alone(
    options: tuple, activation: str | None, narrow_file: Path, tmp_path: Path
) -> None:
    backbone = {
        name: v for name, v in read_tensors(narrow_file).items() if int(name.split(".")[2]) <= 35
    }
    write_mindspore(tmp_path / "yolov4_backbone.ckpt", backbone)
    assert run("mindyolo", tmp_path / "yolov4_backbone.ckpt", tmp_path / "ours.ckpt", *options) == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, card.task, card.class_names) == ("cspdarknet53", "classify", ())
    assert (card.model.bn_eps, card.model.width, card.model.backbone_activation) == (
        1e-3,
        0.25,
        activation,
    )
    assert run("mindyolo", narrow_file, tmp_path / "whole.ckpt") == 0
    whole = read_tensors(tmp_path / "whole.ckpt")
    assert_same(
        read_tensors(tmp_path / "ours.ckpt"),
        {name: v for name, v in whole.items() if name.startswith("backbone.")},
    )

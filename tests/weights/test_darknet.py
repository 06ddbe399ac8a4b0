"""darknet's files there and back, their cfg, and the parts that `.conv.N` files hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.anchors import YOLOV4_ANCHORS_WH_PX
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import floats_of, layers_of, parameter_shapes
from mindyolo_v4.weights.darknet import INPUT, classes_of
from mindyolo_v4.weights.darknet_cfg import write_cfg
from tests.weights.narrow import (
    CLASSIFIER,
    CSP,
    DETECTOR,
    TINY,
    TINY_3L,
    X_MISH,
    assert_same,
    card_of,
    random_tensors,
    read_tensors,
    run,
    write_own,
)

CUSTOM = tuple((w * 1.37 + 0.1234567, h / 3) for w, h in YOLOV4_ANCHORS_WH_PX)
MODELS = {
    "yolov4": DETECTOR,
    "silu": replace(DETECTOR, architecture="yolov4-silu"),
    "tiny": TINY,
    "classifier": CLASSIFIER,
    "topdown 3": replace(DETECTOR, topdown_kernel=3),
    "square": replace(DETECTOR, box_decode="square", scale_x_y=(2.0, 2.0, 2.0)),
    "anchors": replace(DETECTOR, anchors_wh_px=CUSTOM, scale_x_y=(1.05, 1.1, 1.2)),
    "tiny anchors": replace(TINY, anchors_wh_px=CUSTOM[:6], scale_x_y=(1.1, 1.05)),
    "leaky": replace(DETECTOR, backbone_activation="leaky"),
    "mish neck": replace(DETECTOR, neck_activation="mish"),
    "silu backbone": replace(CLASSIFIER, backbone_activation="silu"),
    "mish tiny": replace(TINY, backbone_activation="mish", neck_activation="silu"),
    "wider": ModelConfig(width=0.3, depth=0.67),
    "masks": replace(DETECTOR, anchor_masks=((0, 1), (1, 2, 3, 4), (8,))),
    "tiny-custom": replace(TINY, anchor_masks=((0, 1, 2), (3, 4, 5))),
    "12 anchors": replace(
        DETECTOR,
        anchors_wh_px=CUSTOM + CUSTOM[:3],
        anchor_masks=((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)),
    ),
    "slope": replace(TINY, leaky_slope=0.125),
    "slope 0.01": replace(CLASSIFIER, backbone_activation="leaky", leaky_slope=0.01),
    "two slopes": replace(DETECTOR, backbone_activation="leaky001"),
    "csp": CSP,
    "csp, deeper": replace(CSP, width=0.3, depth=0.67),
    "csp weighted": replace(CSP, residual="weighted"),
    "csp swish": replace(CSP, backbone_activation="silu", neck_activation="silu"),
    "csp exp": replace(CSP, box_decode="exp", scale_x_y=(1.2, 1.1, 1.05)),
    "x-mish": X_MISH,
    "x-mish, deeper": replace(X_MISH, width=0.33, depth=0.67),
    "tiny-3l": TINY_3L,
    "tiny-3l anchors": replace(TINY_3L, anchors_wh_px=CUSTOM, scale_x_y=(1.2, 1.1, 1.05)),
    "weighted": replace(DETECTOR, residual="weighted"),
    "weighted channel": replace(CLASSIFIER, residual="weighted_channel"),
}
OLD, NEW = (0, 1, 0), (0, 2, 5)


def payload(
    model: ModelConfig, classes: int, version: tuple[int, int, int] = NEW, seen: int = 32_032_000
) -> bytes:
    """Return a .weights file of random values."""
    head = (
        np.array(version, "<i4").tobytes()
        + np.array(seen, "<u8" if version[1] >= 2 else "<u4").tobytes()
    )
    return head + b"".join(
        value.tobytes() for value in random_tensors(parameter_shapes(model, classes)).values()
    )


def write_pair(
    folder: Path, model: ModelConfig, classes: int, version: tuple[int, int, int] = NEW
) -> Path:
    """Write a .weights file with its cfg beside it."""
    path = folder / "net.weights"
    path.write_bytes(payload(model, classes, version))
    path.with_suffix(".cfg").write_text(write_cfg(model, classes, side_of(model), False))
    return path


def side_of(model: ModelConfig) -> int:
    """Return the input side, pixels, of the cfg: a classifier's may have any size."""
    return 80 if model.task == "classify" else 96


@pytest.mark.parametrize(
    "name",
    [
        *("yolov4", "silu", "tiny", "classifier", "topdown 3", "square", "anchors"),
        *("masks", "tiny-custom", "12 anchors", "slope", "two slopes"),
        *("csp", "csp swish", "x-mish", "tiny-3l"),
        *("weighted", "weighted channel"),
    ],
)
@pytest.mark.parametrize("version", [OLD, NEW, (0, 2, 0)])
def test_there_and_back_is_bit_identical(
    name: str, version: tuple[int, int, int], tmp_path: Path
) -> None:
    source = write_pair(tmp_path, MODELS[name], 5, version)
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, len(card.class_names), card.img_size) == (
        MODELS[name].architecture,
        5,
        side_of(MODELS[name]),
    )
    assert (card.source_format, len(card.source_sha256), card.model.bn_eps) == ("darknet", 64, 1e-5)
    assert card.model.anchor_set == MODELS[name].anchor_set
    assert card.model.leaky_slope == MODELS[name].leaky_slope
    folder = tmp_path / "again"
    folder.mkdir()
    assert run("darknet", tmp_path / "ours.ckpt", folder / "net.weights") == 0
    assert (folder / "net.weights").read_bytes() == source.read_bytes()
    assert (folder / "net.cfg").read_bytes() == source.with_suffix(".cfg").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["net.cfg", "net.weights"]


def test_a_slope_that_darknet_lacks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_own(tmp_path / "ours.ckpt", replace(CLASSIFIER, backbone_activation="leaky001"))
    assert run("darknet", source, tmp_path / "net.weights") == 0
    told = "note: darknet and OpenCV compute leaky ReLU with slope 0.1, and ignore leaky_slope=0.01"
    assert told in capsys.readouterr().err


def test_an_input_that_is_no_square_and_options_of_the_conversion(tmp_path: Path) -> None:
    source = write_pair(tmp_path, TINY, 5)
    cfg = tmp_path / "net.cfg"
    cfg.write_text(write_cfg(TINY, 5, 608, letterbox=False, img_height=352))
    options = ("--leaky_slope", "0.125", "--resize", "letterbox")
    assert run("darknet", source, tmp_path / "ours.ckpt", *options) == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.img_size, card.img_height) == (608, 352)
    assert (card.model.leaky_slope, card.preprocessing.resize) == (0.125, "letterbox")
    (tmp_path / "again").mkdir()
    assert run("darknet", tmp_path / "ours.ckpt", tmp_path / "again" / "net.weights") == 0
    text = (tmp_path / "again" / "net.cfg").read_text()
    assert "width=608\nheight=352\nchannels=3\nletter_box=1" in text
    assert text.count("leaky_slope=0.125") == text.count("activation=leaky")


def test_what_is_assumed_without_a_cfg_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mine.weights"
    source.write_bytes(payload(ModelConfig("yolov4-tiny"), 4))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    assumed = card_of(tmp_path / "ours.ckpt").origin["assumed"]
    assert assumed.startswith("no cfg was found: anchors, masks")
    assert assumed.endswith("yolov4-tiny.cfg (416 px, stretch)")
    assert f"note: {assumed}; --cfg FILE" in capsys.readouterr().err
    for file in (source, tmp_path / "ours.ckpt"):
        assert run("inspect", file) == 0
        assert assumed in capsys.readouterr().out
    (tmp_path / "mine.cfg").write_text(write_cfg(ModelConfig("yolov4-tiny"), 4, 96, False))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    assert "assumed" not in card_of(tmp_path / "ours.ckpt").origin


def test_the_payload_lies_as_darknet_writes_it(tmp_path: Path) -> None:
    source = write_pair(tmp_path, TINY, 1)
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    stored = np.frombuffer(source.read_bytes(), "<f4", offset=20)
    ours = read_tensors(tmp_path / "ours.ckpt")
    parts = ("bn.beta", "bn.gamma", "bn.moving_mean", "bn.moving_variance", "conv.weight")
    first = np.concatenate([ours[f"backbone.stem0.{part}"].ravel() for part in parts])
    np.testing.assert_array_equal(stored[: first.size], first)
    last = np.concatenate([ours["head.predict4.bias"], ours["head.predict4.weight"].ravel()])
    np.testing.assert_array_equal(stored[-last.size :], last)


@pytest.mark.parametrize("residual", ["weighted", "weighted_channel"])
def test_a_weighted_shortcut_lies_behind_its_block(
    residual: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """darknet's save_shortcut_weights: those of the branch, then those of `from`."""
    model = replace(CLASSIFIER, residual=residual)
    source = write_pair(tmp_path, model, 1)
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    assert card_of(tmp_path / "ours.ckpt").model.residual == residual
    stored = np.frombuffer(source.read_bytes(), "<f4", offset=20)
    layers = layers_of(model, 1)
    number = next(n for n, layer in enumerate(layers) if layer.kind == "sum")
    assert (layers[number].idx, layers[number - 1].name) == (7, "backbone.stage1.blocks.0.conv2")
    start = sum(layer.floats for layer in layers[:number])
    ours = read_tensors(tmp_path / "ours.ckpt")["backbone.stage1.blocks.0.sum.weights"]
    assert ours.shape == ((2,) if residual == "weighted" else (16,))
    np.testing.assert_array_equal(stored[start : start + ours.size], ours)

    capsys.readouterr()
    assert run("darknet", tmp_path / "ours.ckpt", tmp_path / "again.weights") == 0
    assert "OpenCV cannot run" in capsys.readouterr().err
    pair = (tmp_path / "net.cfg", source)
    assert run("verify", tmp_path / "ours.ckpt", "--darknet", *pair, "--img_size", 32) == 2
    assert "OpenCV ignores the weights of [shortcut]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["mindyolo", "mindspore_zoo", "pytorch"])
def test_a_weighted_network_has_no_counterpart_elsewhere(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    padding = "same" if command == "mindspore_zoo" else "symmetric"
    model = replace(DETECTOR, residual="weighted", stride2_padding=padding)
    source = write_own(tmp_path / "ours.ckpt", model)
    target = tmp_path / ("their.safetensors" if command == "pytorch" else "their.ckpt")
    assert run(command, source, target) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {source}: ") and "no counterpart" in line
    assert not target.exists()


def test_full_size_tiny_of_any_class_count_needs_no_cfg(tmp_path: Path) -> None:
    source = tmp_path / "mine.weights"
    source.write_bytes(payload(ModelConfig("yolov4-tiny"), 4))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, card.class_names, card.img_size) == (
        "yolov4-tiny",
        ("0", "1", "2", "3"),
        416,
    )
    names = tmp_path / "my.names"
    names.write_text("\ufeffcat\ndog\n\nbird\nfish\n", encoding="utf-8")
    assert run("darknet", source, tmp_path / "ours.ckpt", "--names", names) == 0
    assert card_of(tmp_path / "ours.ckpt").class_names == ("cat", "dog", "bird", "fish")


@pytest.mark.parametrize(
    ("architecture", "classes", "size"),
    [
        ("yolov4", 80, 257_717_640),
        ("yolov4", 1, 20 + 4 * (63_971_680 + 5385 * 6)),
        ("yolov4-tiny", 80, 24_251_276),
        ("yolov4-tiny-3l", 80, 25_336_200),
        ("yolov4-csp", 80, 211_944_840),
        ("yolov4-csp", 3, 211_944_840 - 4 * 77 * 5385),
        ("yolov4x-mish", 80, 399_388_168),
        ("cspdarknet53", 1000, 110_710_068),
    ],
)
def test_the_length_tells_the_class_count(architecture: str, classes: int, size: int) -> None:
    """Sizes are those of files that darknet wrote."""
    assert classes_of(architecture, (size - 20) // 4) == classes
    assert classes_of(architecture, (size - 24) // 4) is None
    others = INPUT.keys() - {architecture}
    assert [classes_of(other, (size - 20) // 4) for other in others] == [None] * 5


def test_no_part_of_a_network_has_the_length_of_another() -> None:
    """But yolov4-tiny-3l begins with the whole yolov4-tiny."""
    one, two = (
        {name: floats_of(layers_of(ModelConfig(name), classes)) for name in INPUT}
        for classes in (1, 2)
    )
    for name in INPUT:
        floats = 0
        for layer in layers_of(ModelConfig(name), 1000 if name == "cspdarknet53" else 80)[:-1]:
            floats += layer.floats
            for other, least in one.items():
                more, rest = divmod(floats - least, two[other] - least)
                is_whole = rest == 0 and 0 <= more < 1000
                is_known = (name, layer.idx, other) == ("yolov4-tiny-3l", 36, "yolov4-tiny")
                assert is_whole == is_known, f"{name} below {layer.idx + 1} as {other}"


@pytest.mark.parametrize(
    ("architecture", "section", "size"),
    [
        ("yolov4", 137, 170_038_676),
        ("yolov4-tiny", 29, 19_789_716),
        ("yolov4-csp", 142, 146_548_116),
        ("yolov4x-mish", 166, 277_307_668),
        ("cspdarknet53", 105, 106_610_068),
    ],
)
def test_lengths_of_the_published_parts(architecture: str, section: int, size: int) -> None:
    layers = layers_of(ModelConfig(architecture), 80)
    assert 20 + 4 * sum(layer.floats for layer in layers if layer.idx < section) == size


def test_a_published_part_by_its_name_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """yolov4-tiny.conv.29: 19,789,716 bytes, no head, so no classes."""
    whole = payload(ModelConfig("yolov4-tiny"), 80, seen=0)
    source = tmp_path / "yolov4-tiny.conv.29"
    source.write_bytes(whole[:19_789_716])
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, card.class_names, card.origin["partial"]) == ("yolov4-tiny", (), 29)
    expected = random_tensors(parameter_shapes(ModelConfig("yolov4-tiny"), 80))
    left_out = ("head.predict5", "head.expand4", "head.predict4", "neck.lateral")
    assert_same(
        read_tensors(tmp_path / "ours.ckpt"),
        {n: v for n, v in expected.items() if not n.startswith(left_out)},
    )
    assert "17 layers of sections 0 to 28" in capsys.readouterr().err
    assert run("darknet", tmp_path / "ours.ckpt", tmp_path / "back.weights") == 2
    assert "holds a part of its network only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name"), [((), "net.conv.8"), (("--partial", 8), "net.weights")]
)
def test_a_part_of_a_narrow_network(option: tuple, name: str, tmp_path: Path) -> None:
    layers = [layer for layer in layers_of(DETECTOR, 3) if layer.idx < 8]
    source = tmp_path / name
    source.write_bytes(payload(DETECTOR, 3)[: 20 + 4 * sum(layer.floats for layer in layers)])
    (tmp_path / "net.cfg").write_text(write_cfg(DETECTOR, 3, 96, letterbox=False))
    assert run("darknet", source, tmp_path / "ours.ckpt", *option) == 0
    assert set(read_tensors(tmp_path / "ours.ckpt")) == {
        name for layer in layers for name in layer.shapes()
    }


@pytest.mark.parametrize("change", [4, -4, 2])
def test_a_part_of_another_length_is_refused(
    change: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = [layer for layer in layers_of(DETECTOR, 3) if layer.idx < 8]
    size = 20 + 4 * sum(layer.floats for layer in layers)
    source = tmp_path / "net.conv.8"
    source.write_bytes(payload(DETECTOR, 3)[: size + change])
    (tmp_path / "net.cfg").write_text(write_cfg(DETECTOR, 3, 96, letterbox=False))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {source}: its length does not fit the sections below 8 "
        f"(got {size + change} bytes, expected {size} for yolov4 of 3 classes)"
    )


def test_epsilon_is_shifted_into_the_variances(tmp_path: Path) -> None:
    """darknet adds 1e-5 in the root: v' = v + eps - 1e-5 keeps it (v 0.25, eps 1e-3 by hand)."""
    model = replace(DETECTOR, bn_eps=1e-3)
    tensors = random_tensors(parameter_shapes(model, 3))
    tensors["backbone.stem.bn.moving_variance"][:] = 0.25
    source = write_own(tmp_path / "ours.ckpt", model, tensors=tensors)
    assert run("darknet", source, tmp_path / "net.weights") == 0
    channels = 8
    stored = np.frombuffer((tmp_path / "net.weights").read_bytes(), "<f4", offset=20)
    np.testing.assert_array_equal(stored[:channels], tensors["backbone.stem.bn.beta"])
    np.testing.assert_array_equal(stored[3 * channels : 4 * channels], np.float32(0.25099))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (
            replace(DETECTOR, stride2_padding="same"),
            "model.stride2_padding: same, expected symmetric",
        )
    ],
)
def test_what_darknet_cannot_compute_is_not_written(
    model: ModelConfig, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_own(tmp_path / "ours.ckpt", model)
    assert run("darknet", source, tmp_path / "net.weights") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line and line.startswith(f"error: {source}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["ours.ckpt"]


def test_a_cfg_of_the_users_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_own(tmp_path / "ours.ckpt")
    (tmp_path / "net.cfg").write_text("[net]\nlearning_rate=0.001\n")
    assert run("darknet", source, tmp_path / "net.weights") == 2
    assert "net.cfg: exists with other content" in capsys.readouterr().err
    assert not (tmp_path / "net.weights").exists()
    assert (
        run("darknet", source, tmp_path / "new.weights")
        == run("darknet", source, tmp_path / "new.weights")
        == 0
    )


def test_other_input_than_darknets_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preprocessing = replace(
        card_of(write_own(tmp_path / "a.ckpt")).preprocessing, mean=(1.0, 2.0, 3.0)
    )
    source = write_own(tmp_path / "ours.ckpt", preprocessing=preprocessing)
    assert run("darknet", source, tmp_path / "net.weights") == 0
    error = capsys.readouterr().err
    assert "note: darknet feeds RGB / 255" in error
    assert "crop_fraction" not in error


def test_another_cut_than_darknets_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preprocessing = replace(
        card_of(write_own(tmp_path / "a.ckpt", CLASSIFIER)).preprocessing, crop_fraction=0.875
    )
    source = write_own(tmp_path / "ours.ckpt", CLASSIFIER, preprocessing=preprocessing)
    assert run("darknet", source, tmp_path / "theirs.weights") == 0
    told = f"{source} was tested with data.crop_fraction 0.875: cut its images yourself"
    assert told in capsys.readouterr().err


def test_a_negative_variance_is_no_running_statistic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pair(tmp_path, TINY, 1)
    data = bytearray(source.read_bytes())
    data[20 + 4 * 3 * 8 : 24 + 4 * 3 * 8] = np.float32(
        -0.5
    ).tobytes()  # the first variance, behind three of 8 channels
    source.write_bytes(data)
    assert run("darknet", source, tmp_path / "ours.ckpt") == 2
    assert (
        "a running variance (backbone.stem0.bn.moving_variance) is negative"
        in capsys.readouterr().err
    )

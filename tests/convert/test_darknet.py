"""darknet's files there and back, their cfg, and the parts that `.conv.N` files hold."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convert.darknet import classes_of
from convert.darknet_cfg import read_cfg, write_cfg
from convert.topology import layers_of, parameter_shapes
from mindyolo_v4.anchors import YOLOV4_ANCHORS_WH_PX, YOLOV4_TINY_ANCHORS_WH_PX
from mindyolo_v4.schema.model import ModelConfig
from tests.convert.narrow import (
    CLASSIFIER,
    DETECTOR,
    TINY,
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
}
OLD, NEW = (0, 1, 0), (0, 2, 5)


def payload(model: ModelConfig, classes: int, version: tuple[int, int, int] = NEW, seen: int = 32_032_000) -> bytes:
    """Return a .weights file of random values."""
    head = np.array(version, "<i4").tobytes() + np.array(seen, "<u8" if version[1] >= 2 else "<u4").tobytes()
    return head + b"".join(value.tobytes() for value in random_tensors(parameter_shapes(model, classes)).values())


def write_pair(folder: Path, model: ModelConfig, classes: int, version: tuple[int, int, int] = NEW) -> Path:
    """Write a .weights file with its cfg beside it."""
    path = folder / "net.weights"
    path.write_bytes(payload(model, classes, version))
    path.with_suffix(".cfg").write_text(write_cfg(model, classes, 96, letterbox=False))
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_cfg_says_all_of_the_network(name: str, tmp_path: Path) -> None:
    for letterbox in (False, True):
        path = tmp_path / "net.cfg"
        path.write_text(write_cfg(MODELS[name], 7, 96, letterbox))
        network = read_cfg(path)
        shapes = parameter_shapes(MODELS[name], 7)
        assert parameter_shapes(network.model, network.classes) == shapes
        # Multiples that make the same network are the same; all else is equal to the letter.
        model = replace(network.model, width=MODELS[name].width, depth=MODELS[name].depth)
        assert (model, network.classes, network.img_size) == (MODELS[name], 7, 96)
        resize = "crop" if "cspdarknet53" in model.architecture else "letterbox" if letterbox else "stretch"
        assert network.preprocessing.resize == resize


@pytest.mark.parametrize("name", ["yolov4", "silu", "tiny", "classifier", "topdown 3", "square", "anchors"])
@pytest.mark.parametrize("version", [OLD, NEW, (0, 2, 0)])
def test_there_and_back_is_bit_identical(name: str, version: tuple[int, int, int], tmp_path: Path) -> None:
    source = write_pair(tmp_path, MODELS[name], 5, version)
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, len(card.class_names), card.img_size) == (MODELS[name].architecture, 5, 96)
    assert (card.source_format, len(card.source_sha256), card.model.bn_eps) == ("darknet", 64, 1e-5)
    folder = tmp_path / "again"
    folder.mkdir()
    assert run("darknet", tmp_path / "ours.ckpt", folder / "net.weights") == 0
    assert (folder / "net.weights").read_bytes() == source.read_bytes()
    assert (folder / "net.cfg").read_bytes() == source.with_suffix(".cfg").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["net.cfg", "net.weights"]


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


def test_full_size_tiny_of_any_class_count_needs_no_cfg(tmp_path: Path) -> None:
    source = tmp_path / "mine.weights"
    source.write_bytes(payload(ModelConfig("yolov4-tiny"), 4))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, card.class_names, card.img_size) == ("yolov4-tiny", ("0", "1", "2", "3"), 416)
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
        ("cspdarknet53", 1000, 110_710_068),
    ],
)
def test_the_length_tells_the_class_count(architecture: str, classes: int, size: int) -> None:
    """Sizes are those of files that darknet wrote."""
    assert classes_of(architecture, (size - 20) // 4) == classes
    assert classes_of(architecture, (size - 24) // 4) is None
    others = {"yolov4", "yolov4-tiny", "cspdarknet53"} - {architecture}
    assert [classes_of(other, (size - 20) // 4) for other in others] == [None, None]


def test_no_part_of_a_network_has_the_length_of_another() -> None:
    for name, classes in (("yolov4", 80), ("yolov4-tiny", 80), ("cspdarknet53", 1000)):
        floats = 0
        for layer in layers_of(ModelConfig(name), classes)[:-1]:
            floats += layer.floats
            assert [classes_of(other, floats) for other in ("yolov4", "yolov4-tiny", "cspdarknet53")] == [None] * 3


@pytest.mark.parametrize(
    ("architecture", "section", "size"),
    [("yolov4", 137, 170_038_676), ("yolov4-tiny", 29, 19_789_716), ("cspdarknet53", 105, 106_610_068)],
)
def test_lengths_of_the_published_parts(architecture: str, section: int, size: int) -> None:
    layers = layers_of(ModelConfig(architecture), 80)
    assert 20 + 4 * sum(layer.floats for layer in layers if layer.idx < section) == size


def test_a_published_part_by_its_name_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """yolov4-tiny.conv.29: 19,789,716 bytes, no head, so no classes."""
    whole = payload(ModelConfig("yolov4-tiny"), 80, seen=0)
    source = tmp_path / "yolov4-tiny.conv.29"
    source.write_bytes(whole[:19_789_716])
    assert run("darknet", source, tmp_path / "ours.ckpt") == 0
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, card.class_names, card.origin["partial"]) == ("yolov4-tiny", (), 29)
    expected = random_tensors(parameter_shapes(ModelConfig("yolov4-tiny"), 80))
    left_out = ("head.predict5", "head.expand4", "head.predict4", "neck.lateral")
    assert_same(read_tensors(tmp_path / "ours.ckpt"), {n: v for n, v in expected.items() if not n.startswith(left_out)})
    assert "17 layers of sections 0 to 28" in capsys.readouterr().err
    assert run("darknet", tmp_path / "ours.ckpt", tmp_path / "back.weights") == 2
    assert "holds a part of its network only" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "name"), [((), "net.conv.8"), (("--partial", 8), "net.weights")])
def test_a_part_of_a_narrow_network(option: tuple, name: str, tmp_path: Path) -> None:
    layers = [layer for layer in layers_of(DETECTOR, 3) if layer.idx < 8]
    source = tmp_path / name
    source.write_bytes(payload(DETECTOR, 3)[: 20 + 4 * sum(layer.floats for layer in layers)])
    (tmp_path / "net.cfg").write_text(write_cfg(DETECTOR, 3, 96, letterbox=False))
    assert run("darknet", source, tmp_path / "ours.ckpt", *option) == 0
    assert set(read_tensors(tmp_path / "ours.ckpt")) == {name for layer in layers for name in layer.shapes()}


@pytest.mark.parametrize("change", [4, -4, 2])
def test_a_part_of_another_length_is_refused(change: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [layer for layer in layers_of(DETECTOR, 3) if layer.idx < 8]
    size = 20 + 4 * sum(layer.floats for layer in layers)
    source = tmp_path / "net.conv.8"
    source.write_bytes(payload(DETECTOR, 3)[: size + change])
    (tmp_path / "net.cfg").write_text(write_cfg(DETECTOR, 3, 96, letterbox=False))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {source}: its length does not fit the sections below 8 (got {size + change} bytes, "
        f"expected {size} for yolov4)"
    )


def as_released(text: str) -> str:
    """Return a cfg of ours in the style of the released ones: relative sections, spaces, comments, training options."""
    sections = text.split("[")[1:]
    for idx, section in enumerate(sections[1:]):

        def relative(match: re.Match[str], idx: int = idx) -> str:
            numbers = [int(number) for number in match[2].split(",")]
            near = (str(number - idx if idx - number < 40 else number) for number in numbers)
            return f"{match[1]} = {', '.join(near)}"

        sections[idx + 1] = re.sub(r"(layers|from)=([\d,]+)", relative, section)
    sections[0] = sections[0].replace("batch=1", "# Testing\n#batch=1\nbatch=64 ; Training\nmomentum=0.949\nmosaic=1")
    text = "[" + "##########################\n\n[".join(sections)
    text = text.replace("anchors=", "anchors =  ").replace("nms_kind", "max_delta=5\nrandom=1\njitter=.3\nnms_kind")
    return text.replace("[softmax]\ngroups=1", "[softmax]\ngroups=1\n\n[cost]\ntype=sse").replace("\n", "\r\n")


@pytest.mark.parametrize("name", ["yolov4", "tiny", "classifier"])
def test_a_cfg_in_the_style_of_the_released_ones(name: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.cfg", tmp_path / "theirs.cfg"
    ours.write_text(write_cfg(MODELS[name], 5, 96, letterbox=False))
    theirs.write_bytes(as_released(ours.read_text()).encode() + b"# gr\xfcn\n")
    assert "-1, -7" in theirs.read_text(errors="replace") or name == "tiny"
    assert read_cfg(theirs) == read_cfg(ours)


def test_the_released_cfg_files_say_what_the_table_says() -> None:
    """Sections of yolov4.cfg whose numbers are published: three routes, a shortcut, the pools, the anchors' use."""
    text = write_cfg(ModelConfig(), 80, 608, letterbox=False).split("\n\n")[1:]
    assert len(text) == 162
    assert text[3] == "[route]\nlayers=1"
    assert text[9] == "[route]\nlayers=8,2"
    assert text[113] == "[route]\nlayers=112,110,108,107"
    assert text[121] == "[route]\nlayers=120,118"
    assert text[7].startswith("[shortcut]\nfrom=4")
    assert "filters=255" in text[160] and "activation=linear" in text[160]
    assert text[161].startswith("[yolo]") and "mask=6,7,8" in text[161]
    tiny = write_cfg(ModelConfig("yolov4-tiny"), 80, 416, letterbox=False).split("\n\n")[1:]
    assert len(tiny) == 38
    assert tiny[3] == "[route]\nlayers=2\ngroups=2\ngroup_id=1"
    assert tiny[34] == "[route]\nlayers=33,23"
    assert f"anchors={', '.join(f'{w},{h}' for w, h in YOLOV4_TINY_ANCHORS_WH_PX)}" in tiny[30]


def line_of(text: str, section: int) -> int:
    """Return the line of a section's heading; -1 is [net]."""
    return [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("[")][section + 1]


@pytest.mark.parametrize(
    ("section", "old", "new", "complaint"),
    [
        (0, "activation=mish", "activation=relu", "[convolutional] activation is not our network's (got relu"),
        (0, "size=3", "size=5", "[convolutional] size is not"),
        (1, "pad=1", "pad=0", "[convolutional] pad is not"),
        (1, "stride=2", "stride=1", "is not our network's"),
        (1, "stride=2", "stride=2\ngroups=2", "[convolutional] groups is not our network's (got 2"),
        (4, "filters=8", "filters=16", "[convolutional] filters is not our network's (got 16, expected 8)"),
        (3, "layers=1", "layers=2", "[route] layers is not our network's (got 2, expected 1)"),
        (3, "layers=1", "layers=x", "[route] layers is not our network's (got x, expected 1)"),
        (7, "[shortcut]", "[sam]", "section 7 is none of our network's (got [sam], expected [shortcut])"),
        (7, "from=4", "from=3", "[shortcut] from is not"),
        (54, "size=5", "size=7", "[maxpool] size is not"),
        (85, "mask=0,1,2", "mask=6,7,8", "[yolo] mask is not"),
        (85, "anchors=12,16", "anchors=12,x", "[yolo] anchors holds what is no number"),
        (85, "anchors=12,16, ", "anchors=", "[yolo] model.anchors_wh_px: wrong count (got 8, expected 9)"),
        (85, "scale_x_y=1.2", "scale_x_y=0.5", "[yolo] model.scale_x_y: must be >= 1"),
        (85, "classes=5", "classes=6", "[convolutional] filters is not our network's (got 30, expected 33)"),
        (96, "anchors=12,16", "anchors=13,16", "[yolo] anchors is not"),
        (96, "[yolo]", "[detection]", "[yolo] model.anchors_wh_px: wrong count (got 9, expected 6)"),
        (-1, "width=96", "width=100", "not a square input of a multiple of 32 (got 100x96)"),
        (-1, "width=96", "width=1e2", "[net] width is no whole number (got 1e2)"),
        (-1, "channels=3", "channels=1", "[net] channels (got 1, expected 3)"),
    ],
)
def test_the_cfg_of_another_network_is_refused_by_line(
    section: int, old: str, new: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pair(tmp_path, DETECTOR, 5)
    cfg = tmp_path / "net.cfg"
    parts = cfg.read_text().split("\n\n")
    assert old in parts[section + 1]
    parts[section + 1] = parts[section + 1].replace(old, new)
    cfg.write_text("\n\n".join(parts))
    assert run("darknet", source, tmp_path / "ours.ckpt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert re.match(rf"error: {re.escape(str(cfg))}:\d+: ", line)
    if "filters is not our network's (got 30" not in complaint and section != 96:
        assert line.startswith(f"error: {cfg}:{line_of(cfg.read_text(), section)}: ")
    assert not (tmp_path / "ours.ckpt").exists()


def test_a_released_name_with_a_cfg_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_pair(tmp_path, TINY, 1)
    for content, complaint in (
        (b"\x00\x01\x02\xff" * 40, "net.cfg:1: no line of a darknet cfg"),
        (b"", "net.cfg: no darknet cfg (got nothing, expected [net] first)"),
        (b"[net]\nwidth=96\nheight=96\n", "net.cfg: has no [convolutional] section"),
        (b"[net]\nwidth=96\n\n[convolutional]\nfilters=99999999\n", "net.cfg:4: [convolutional] filters: model.width"),
        (b"[convolutional]\nsize=1\n", "net.cfg: no darknet cfg (got convolutional, expected [net] first)"),
    ):
        (tmp_path / "net.cfg").write_bytes(content)
        assert run("darknet", source, tmp_path / "ours.ckpt") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line


def test_epsilon_is_shifted_into_the_variances(tmp_path: Path) -> None:
    """darknet adds 1e-5 inside the root: v' = v + eps - 1e-5 keeps sqrt(v + eps), v = 0.25 and eps = 1e-3 by hand."""
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
        (replace(DETECTOR, stride2_padding="same"), "model.stride2_padding: same, expected symmetric"),
        (replace(CLASSIFIER, backbone_activation="leaky001"), "no leaky ReLU of slope 0.01"),
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


def test_a_cfg_of_the_users_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_own(tmp_path / "ours.ckpt")
    (tmp_path / "net.cfg").write_text("[net]\nlearning_rate=0.001\n")
    assert run("darknet", source, tmp_path / "net.weights") == 2
    assert "net.cfg: is there already and says something else" in capsys.readouterr().err
    assert not (tmp_path / "net.weights").exists()
    assert run("darknet", source, tmp_path / "new.weights") == run("darknet", source, tmp_path / "new.weights") == 0


def test_other_input_than_darknets_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preprocessing = replace(card_of(write_own(tmp_path / "a.ckpt")).preprocessing, mean=(1.0, 2.0, 3.0))
    source = write_own(tmp_path / "ours.ckpt", preprocessing=preprocessing)
    assert run("darknet", source, tmp_path / "net.weights") == 0
    assert "note: darknet feeds RGB / 255" in capsys.readouterr().err


def test_a_negative_variance_is_no_running_statistic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_pair(tmp_path, TINY, 1)
    data = bytearray(source.read_bytes())
    data[20 + 4 * 3 * 8 : 24 + 4 * 3 * 8] = np.float32(-0.5).tobytes()  # the first variance, behind three of 8 channels
    source.write_bytes(data)
    assert run("darknet", source, tmp_path / "ours.ckpt") == 2
    assert "a running variance (backbone.stem0.bn.moving_variance) is negative" in capsys.readouterr().err

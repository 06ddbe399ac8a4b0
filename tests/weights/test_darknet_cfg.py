"""The cfg of a darknet network: what it says, in whose style, and what is refused by line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mindyolo_v4.anchors import YOLOV4_TINY_ANCHORS_WH_PX
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.weights.darknet_cfg import read_cfg, write_cfg
from tests.weights.narrow import DETECTOR, TINY, run
from tests.weights.test_darknet import MODELS, write_pair


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
        resize = (
            "crop"
            if "cspdarknet53" in model.architecture
            else "letterbox"
            if letterbox
            else "stretch"
        )
        assert network.preprocessing.resize == resize


def as_released(text: str) -> str:
    """Return a cfg of ours in the released style: relative sections, spaces, comments, options."""
    sections = text.split("[")[1:]
    for idx, section in enumerate(sections[1:]):

        def relative(match: re.Match[str], idx: int = idx) -> str:
            numbers = [int(number) for number in match[2].split(",")]
            near = (str(number - idx if idx - number < 40 else number) for number in numbers)
            return f"{match[1]} = {', '.join(near)}"

        sections[idx + 1] = re.sub(r"(layers|from)=([\d,]+)", relative, section)
    sections[0] = sections[0].replace(
        "batch=1", "# Testing\n#batch=1\nbatch=64 ; Training\nmomentum=0.949\nmosaic=1"
    )
    text = "[" + "##########################\n\n[".join(sections)
    text = text.replace("anchors=", "anchors =  ").replace(
        "nms_kind", "max_delta=5\nrandom=1\njitter=.3\nnms_kind"
    )
    return text.replace("[softmax]\ngroups=1", "[softmax]\ngroups=1\n\n[cost]\ntype=sse").replace(
        "\n", "\r\n"
    )


@pytest.mark.parametrize("name", ["yolov4", "tiny", "classifier"])
def test_a_cfg_in_the_style_of_the_released_ones(name: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.cfg", tmp_path / "theirs.cfg"
    ours.write_text(write_cfg(MODELS[name], 5, 96, letterbox=False))
    theirs.write_bytes(as_released(ours.read_text()).encode() + b"# gr\xfcn\n")
    assert "-1, -7" in theirs.read_text(errors="replace") or name == "tiny"
    assert read_cfg(theirs) == read_cfg(ours)


def test_the_released_cfg_files_say_what_the_table_says() -> None:
    """Published sections of yolov4.cfg: three routes, a shortcut, the pools, the anchors' use."""
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
    return [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("[")][
        section + 1
    ]


@pytest.mark.parametrize(
    ("section", "old", "new", "complaint"),
    [
        (
            0,
            "activation=mish",
            "activation=relu",
            "[convolutional] activation is not our network's (got relu",
        ),
        (0, "size=3", "size=5", "[convolutional] size is not"),
        (1, "pad=1", "pad=0", "[convolutional] pad is not"),
        (1, "stride=2", "stride=1", "is not our network's"),
        (1, "stride=2", "stride=2\ngroups=2", "[convolutional] groups is not our network's (got 2"),
        (
            4,
            "filters=8",
            "filters=16",
            "[convolutional] filters is not our network's (got 16, expected 8)",
        ),
        (3, "layers=1", "layers=2", "[route] layers is not our network's (got 2, expected 1)"),
        (3, "layers=1", "layers=x", "[route] layers is not our network's (got x, expected 1)"),
        (
            7,
            "[shortcut]",
            "[dropout]",
            "section 7 is none of our network's (got [dropout], expected [shortcut])",
        ),
        (7, "from=4", "from=3", "[shortcut] from is not"),
        (54, "size=5", "size=7", "[maxpool] size is not"),
        (85, "mask=0,1,2", "mask=6,7,9", "[yolo] model.anchor_masks: not numbers of anchors"),
        (85, "mask=0,1,2", "mask=6,7.5", "[yolo] mask holds what is not a number"),
        (85, "mask=0,1,2", "mask=6,7", "[convolutional] filters is not our network's (got 30"),
        (0, "activation=mish", "activation=leaky\nleaky_slope=0.2", "(got 0.2, expected 0.01)"),
        (85, "anchors=12,16", "anchors=12,x", "[yolo] anchors holds what is not a number"),
        (85, "anchors=12,16, ", "anchors=", "[yolo] model.anchor_masks: not numbers of anchors"),
        (85, "scale_x_y=1.2", "scale_x_y=0.5", "[yolo] model.scale_x_y: must be >= 1"),
        (
            85,
            "classes=5",
            "classes=6",
            "[convolutional] filters is not our network's (got 30, expected 33)",
        ),
        (96, "anchors=12,16", "anchors=13,16", "[yolo] anchors is not"),
        (
            96,
            "[yolo]",
            "[detection]",
            "[convolutional] stride is not our network's (got 1, expected 2)",
        ),
        (-1, "width=96", "width=100", "wrong input sides (got 100x96, expected"),
        (-1, "width=96", "width=1e2", "[net] width is not a whole number (got 1e2)"),
        (-1, "channels=3", "channels=1", "[net] channels (got 1, expected 3)"),
    ],
)
def test_the_cfg_of_another_network_is_refused_by_line(
    section: int,
    old: str,
    new: str,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
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


def test_a_released_name_with_a_cfg_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_pair(tmp_path, TINY, 1)
    for content, complaint in (
        (b"\x00\x01\x02\xff" * 40, "net.cfg:1: no line of a darknet cfg"),
        (b"", "net.cfg: no darknet cfg (got nothing, expected [net] first)"),
        (b"[net]\nwidth=96\nheight=96\n", "net.cfg: has no [convolutional] section"),
        (
            b"[net]\nwidth=96\n\n[convolutional]\nfilters=99999999\n",
            "net.cfg:4: [convolutional] model.width",
        ),
        (
            b"[convolutional]\nsize=1\n",
            "net.cfg: no darknet cfg (got convolutional, expected [net] first)",
        ),
    ):
        (tmp_path / "net.cfg").write_bytes(content)
        assert run("darknet", source, tmp_path / "ours.ckpt") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line

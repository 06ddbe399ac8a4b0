"""darknet's .cfg: written for our networks, and read to learn what a .weights file does not say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.mapping import depth_of, width_of
from mindyolo_v4.weights.topology import DARKNET_ACTIVATIONS, Section, sections_of

_HEAD_OPTIONS = {
    "ignore_thresh": ".7",
    "truth_thresh": "1",
    "iou_thresh": "0.213",
    "nms_kind": "greedynms",
    "beta_nms": "0.6",
}
_COMPARED = {  # option -> value where a section does not name it
    "convolutional": {
        "filters": "1",
        "size": "1",
        "stride": "1",
        "pad": "0",
        "batch_normalize": "0",
        "activation": "logistic",
        "groups": "1",
        "dilation": "1",
    },
    "maxpool": {"size": "1", "stride": "1"},
    "route": {"layers": "", "groups": "1", "group_id": "0"},
    "shortcut": {"from": "", "activation": "linear"},
    "upsample": {"stride": "2"},
    "yolo": {
        "mask": "",
        "anchors": "",
        "classes": "20",
        "num": "1",
        "scale_x_y": "1",
        "new_coords": "0",
    },
}
_ARCHITECTURES = {
    0: ("cspdarknet53", 1024),
    2: ("yolov4-tiny", 512),
    3: ("yolov4", 1024),
}  # by heads; widest layer
_ACTIVATIONS = {
    darknet: ours for ours, darknet in DARKNET_ACTIVATIONS.items() if ours != "leaky001"
}


@dataclass(frozen=True)
class CfgSection:
    """One `[section]` of a cfg file."""

    kind: str
    options: dict[str, str]
    line: int  # of its heading, from 1


@dataclass(frozen=True)
class CfgNetwork:
    """What a cfg says of one of our networks."""

    model: ModelConfig
    classes: int
    img_size: int  # pixels
    preprocessing: Preprocessing


def write_cfg(model: ModelConfig, classes: int, img_size: int, letterbox: bool) -> str:
    """Return the text of the cfg that a network's .weights belongs to."""
    net = {
        "batch": "1",
        "subdivisions": "1",
        "width": img_size,
        "height": img_size,
        "channels": "3",
    }
    if letterbox:
        net["letter_box"] = "1"
    parts = [("net", net)]
    for section in sections_of(model, classes):
        own = _HEAD_OPTIONS if section.kind == "yolo" else {}
        parts.append((section.kind, section.options | own))
    return (
        "\n\n".join(
            "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())])
            for kind, options in parts
        )
        + "\n"
    )


def parse_cfg(path: str | Path) -> list[CfgSection]:
    """Return the sections of a cfg file, in order. Raises UserError naming file and line."""
    sections: list[CfgSection] = []
    lines = (
        Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    )  # comments are in any encoding
    for number, line in enumerate(lines, start=1):
        text = re.split(r"[#;]", line, maxsplit=1)[0].strip()
        if match := re.fullmatch(r"\[(\w+)\]", text):
            sections.append(CfgSection(match[1], {}, number))
        elif text:
            key, equals, value = text.partition("=")
            if not equals or not sections:
                raise UserError(
                    f"{path}:{number}",
                    "no line of a darknet cfg",
                    ascii(text[:60]),
                    "[section] or key=value",
                )
            sections[-1].options[key.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        raise UserError(
            path, "no darknet cfg", sections[0].kind if sections else "nothing", "[net] first"
        )
    return sections


def read_cfg(path: str | Path) -> CfgNetwork:
    """Return which of our networks a cfg describes.

    Raises:
        UserError: it describes another network; the first section that differs is named.
    """
    net, *sections = parse_cfg(path)
    model, classes = _guess(path, sections)
    _compare(path, sections, sections_of(model, max(classes, 1)))
    width, height = (_number(path, net, key, "416") for key in ("width", "height"))
    if width != height or width % 32 or not width:
        raise UserError(
            f"{path}:{net.line}", "not a square input of a multiple of 32", f"{width}x{height}"
        )
    if _number(path, net, "channels", "3") != 3:
        raise UserError(f"{path}:{net.line}", "[net] channels", net.options["channels"], "3")
    if model.architecture == "cspdarknet53":
        return CfgNetwork(model, classes, width, Preprocessing("crop"))
    resize = "letterbox" if net.options.get("letter_box", "0") != "0" else "stretch"
    return CfgNetwork(model, classes, width, Preprocessing(resize))


def _guess(path: str | Path, sections: Sequence[CfgSection]) -> tuple[ModelConfig, int]:
    """Return the network that a cfg seems to describe; where it describes another, `_compare` finds the place."""
    convs = [section for section in sections if section.kind == "convolutional"]
    heads = [section for section in sections if section.kind == "yolo"]
    if not convs:
        raise UserError(path, "has no [convolutional] section")
    if len(heads) not in _ARCHITECTURES:
        raise UserError(
            f"{path}:{heads[0].line}", "another number of [yolo] sections", len(heads), "2 or 3"
        )
    architecture, full_width = _ARCHITECTURES[len(heads)]
    norms = [
        section for section in convs if section.options.get("batch_normalize", "0") == "1"
    ] or convs
    activations = [
        _ACTIVATIONS.get(section.options.get("activation", "")) for section in (norms[0], norms[-1])
    ]
    if architecture == "yolov4" and activations == ["silu", "silu"]:
        architecture = "yolov4-silu"
    widest = max(norms, key=lambda section: _number(path, section, "filters", "1"))
    own = [
        name if name != usual else None
        for name, usual in zip(activations, ModelConfig(architecture).activations, strict=True)
    ]
    try:
        model = ModelConfig(
            architecture,
            width_of(_number(path, widest, "filters", "1"), full_width),
            1.0 if architecture == "yolov4-tiny" else depth_of(_blocks(path, sections)) or 1.0,
            backbone_activation=own[0],
            neck_activation=own[1] if heads else None,
        )
    except UserError as error:
        raise UserError(f"{path}:{widest.line}", f"[convolutional] filters: {error}") from error
    if not heads:
        return model, _number(path, convs[-1], "filters", "1")
    upsamples = [i for i, section in enumerate(sections) if section.kind == "upsample"]
    if len(upsamples) == 2 and sections[upsamples[1] - 1].options.get("size") == "3":
        model = replace(model, topdown_kernel=3)
    return _with_heads(model, path, heads), _number(path, heads[0], "classes", "20")


def _blocks(path: str | Path, sections: Sequence[CfgSection]) -> tuple[int, ...]:
    """Return the number of residual sums behind each of the five halving convolutions of the backbone."""
    blocks: list[int] = []
    for section in sections:
        if (
            section.kind == "convolutional"
            and _number(path, section, "stride", "1") == 2
            and len(blocks) < 5
        ):
            blocks.append(0)
        elif section.kind == "shortcut" and blocks:
            blocks[-1] += 1
    return tuple(blocks)


def _with_heads(model: ModelConfig, path: str | Path, heads: Sequence[CfgSection]) -> ModelConfig:
    """Read anchors, scale_x_y and decode, smallest stride first, and leave out what is the architecture's own."""
    by_stride = heads if len(heads) == 3 else heads[::-1]
    numbers = _floats(path, heads[0], "anchors", "")
    try:
        own = replace(
            model,
            anchors_wh_px=tuple(zip(numbers[::2], numbers[1::2], strict=False)),
            scale_x_y=tuple(_floats(path, head, "scale_x_y", "1")[0] for head in by_stride),
            box_decode="square" if heads[0].options.get("new_coords", "0") == "1" else "exp",
        )
    except UserError as error:
        raise UserError(f"{path}:{heads[0].line}", f"[yolo] {error}") from error
    anchors_agree = replace(own, anchors_wh_px=None).anchor_set == own.anchor_set
    scales_agree = replace(own, scale_x_y=None).anchor_set == own.anchor_set
    return replace(
        own,
        anchors_wh_px=None if anchors_agree else own.anchors_wh_px,
        scale_x_y=None if scales_agree else own.scale_x_y,
    )


def _compare(path: str | Path, sections: Sequence[CfgSection], expected: Sequence[Section]) -> None:
    found = [section for section in sections if section.kind != "cost"]
    for idx, (section, ours) in enumerate(zip(found, expected, strict=False)):
        where = f"{path}:{section.line}"
        if section.kind != ours.kind:
            raise UserError(
                where,
                f"section {idx} is none of our network's",
                f"[{section.kind}]",
                f"[{ours.kind}]",
            )
        for key, default in _COMPARED.get(section.kind, {}).items():
            if key == "pad" and ours.options["size"] == "1":
                continue  # nothing to pad
            got = section.options.get(key, default)
            want = _canonical(ours.options.get(key, default), key, idx)
            try:
                differs = _canonical(got, key, idx) != want
            except ValueError:
                differs = True
            if differs:
                raise UserError(where, f"[{section.kind}] {key} is not our network's", got, want)
    if len(found) != len(expected):
        raise UserError(path, "another number of sections", len(found), len(expected))


def _canonical(value: str, key: str, idx: int) -> str:
    """Return an option's value with relative section numbers made absolute and spaces left out."""
    if key in ("layers", "from"):
        numbers = [int(text) for text in value.split(",") if text.strip()]
        return ",".join(str(number if number >= 0 else idx + number) for number in numbers)
    if key in ("scale_x_y", "anchors"):
        return ",".join(f"{float(text):g}" for text in value.split(",") if text.strip())
    return value.replace(" ", "")


def _floats(path: str | Path, section: CfgSection, key: str, default: str) -> list[float]:
    value = section.options.get(key, default)
    try:
        return [float(text) for text in value.split(",") if text.strip()] or [0.0]
    except ValueError as error:
        raise UserError(
            f"{path}:{section.line}", f"[{section.kind}] {key} holds what is no number", value
        ) from error


def _number(path: str | Path, section: CfgSection, key: str, default: str) -> int:
    value = section.options.get(key, default)
    if not value.isdigit():
        raise UserError(
            f"{path}:{section.line}", f"[{section.kind}] {key} is no whole number", value
        )
    return int(value)

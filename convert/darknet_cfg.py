"""darknet's .cfg: written for our networks, and read to learn what a .weights file does not say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convert.mapping import depth_of, width_of
from convert.topology import Section, sections_of
from mindyolo_v4.anchors import anchor_set
from mindyolo_v4.schema.card import Preprocessing
from mindyolo_v4.schema.errors import UserError
from mindyolo_v4.schema.model import ModelConfig

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
    },
    "maxpool": {"size": "1", "stride": "1"},
    "route": {"layers": "", "groups": "1", "group_id": "0"},
    "shortcut": {"from": "", "activation": "linear"},
    "upsample": {"stride": "2"},
    "yolo": {"mask": "", "classes": "20", "num": "1", "scale_x_y": "1", "new_coords": "0"},
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
    net = {"batch": "1", "subdivisions": "1", "width": img_size, "height": img_size, "channels": "3"}
    if letterbox:
        net["letter_box"] = "1"
    parts = [("net", net)]
    for section in sections_of(model, classes):
        own = _HEAD_OPTIONS if section.kind == "yolo" else {}
        parts.append((section.kind, section.options | own))
    return (
        "\n\n".join(
            "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())]) for kind, options in parts
        )
        + "\n"
    )


def parse_cfg(path: str | Path) -> list[CfgSection]:
    """Return the sections of a cfg file, in order. Raises UserError naming file and line."""
    sections: list[CfgSection] = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(path, "no darknet cfg: not UTF-8 text") from error
    for number, line in enumerate(lines, start=1):
        text = re.split(r"[#;]", line, maxsplit=1)[0].strip()
        if match := re.fullmatch(r"\[(\w+)\]", text):
            sections.append(CfgSection(match[1], {}, number))
        elif text:
            key, equals, value = text.partition("=")
            if not equals or not sections:
                raise UserError(f"{path}:{number}", "no line of a darknet cfg", text, "[section] or key=value")
            sections[-1].options[key.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        raise UserError(path, "no darknet cfg", sections[0].kind if sections else "nothing", "[net] first")
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
    if width != height or width % 32:
        raise UserError(f"{path}:{net.line}", "not a square input of a multiple of 32", f"{width}x{height}")
    if model.architecture == "cspdarknet53":
        return CfgNetwork(model, classes, width, Preprocessing("crop"))
    resize = "letterbox" if net.options.get("letter_box", "0") != "0" else "stretch"
    return CfgNetwork(model, classes, width, Preprocessing(resize))


def _guess(path: str | Path, sections: Sequence[CfgSection]) -> tuple[ModelConfig, int]:
    """Return the network that a cfg seems to describe, by its heads, its widest convolution and its shortcuts."""
    convs = [section for section in sections if section.kind == "convolutional"]
    heads = [section for section in sections if section.kind == "yolo"]
    if not convs:
        raise UserError(path, "has no [convolutional] section")
    if not heads:
        last = convs[-1]
        model = _with_backbone(ModelConfig("cspdarknet53"), path, sections)
        return model, _number(path, last, "filters", "1")
    classes = _number(path, heads[0], "classes", "20")
    if len(heads) == 2:
        model = ModelConfig("yolov4-tiny", width=_number(path, convs[0], "filters", "1") / 32)
    else:
        architecture = "yolov4-silu" if convs[0].options.get("activation") == "swish" else "yolov4"
        model = _with_backbone(ModelConfig(architecture), path, sections)
        upsamples = [i for i, section in enumerate(sections) if section.kind == "upsample"]
        if len(upsamples) == 2:
            model = replace(model, topdown_kernel=_number(path, sections[upsamples[1] - 1], "size", "1"))
    return _with_heads(model, path, heads), classes


def _with_backbone(model: ModelConfig, path: str | Path, sections: Sequence[CfgSection]) -> ModelConfig:
    """Read width and depth from the five halving convolutions and the residual sums behind each."""
    blocks, channels = [], 0
    for section in sections:
        if section.kind == "convolutional" and _number(path, section, "stride", "1") == 2 and len(blocks) < 5:
            blocks.append(0)
            channels = _number(path, section, "filters", "1")
        elif section.kind == "shortcut" and blocks:
            blocks[-1] += 1
    activation = next(s for s in sections if s.kind == "convolutional").options.get("activation")
    own = {"leaky": "leaky"}.get(activation or "")
    return replace(model, width=width_of(channels), depth=depth_of(tuple(blocks), path), backbone_activation=own)


def _with_heads(model: ModelConfig, path: str | Path, heads: Sequence[CfgSection]) -> ModelConfig:
    """Read anchors, scale_x_y and decode, smallest stride first, and leave out what is the architecture's own."""
    by_stride = heads if len(heads) == 3 else heads[::-1]
    numbers = [float(text) for text in heads[0].options.get("anchors", "").split(",") if text.strip()]
    own = replace(
        model,
        anchors_wh_px=tuple(zip(numbers[::2], numbers[1::2], strict=True)),
        scale_x_y=tuple(float(head.options.get("scale_x_y", "1")) for head in by_stride),
        box_decode="square" if heads[0].options.get("new_coords", "0") == "1" else "exp",
    )
    plain = replace(own, anchors_wh_px=None, scale_x_y=None)
    return plain if anchor_set(plain) == anchor_set(own) else own


def _compare(path: str | Path, sections: Sequence[CfgSection], expected: Sequence[Section]) -> None:
    found = [section for section in sections if section.kind != "cost"]
    for idx, (section, ours) in enumerate(zip(found, expected, strict=False)):
        where = f"{path}:{section.line}"
        if section.kind != ours.kind:
            raise UserError(where, f"section {idx} is none of our network's", f"[{section.kind}]", f"[{ours.kind}]")
        for key, default in _COMPARED.get(section.kind, {}).items():
            if key == "pad" and ours.options["size"] == "1":
                continue  # nothing to pad
            got = _canonical(section.options.get(key, default), key, idx)
            want = _canonical(ours.options.get(key, default), key, idx)
            if got != want:
                raise UserError(where, f"[{section.kind}] {key} is not our network's", got, want)
    if len(found) != len(expected):
        raise UserError(path, "another number of sections", len(found), len(expected))


def _canonical(value: str, key: str, idx: int) -> str:
    """Return an option's value with relative section numbers made absolute and spaces left out."""
    if key in ("layers", "from"):
        numbers = (int(text) for text in value.split(",") if text.strip())
        return ",".join(str(number if number >= 0 else idx + number) for number in numbers)
    if key == "scale_x_y":
        return f"{float(value):g}"
    return value.replace(" ", "")


def _number(path: str | Path, section: CfgSection, key: str, default: str) -> int:
    value = section.options.get(key, default)
    if not value.isdigit():
        raise UserError(f"{path}:{section.line}", f"[{section.kind}] {key} is no whole number", value)
    return int(value)

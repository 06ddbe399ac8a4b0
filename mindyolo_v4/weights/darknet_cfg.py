"""darknet's .cfg: written for our networks, and read to learn what a .weights file does not say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.mapping import depth_of, width_of
from mindyolo_v4.weights.topology import Layer, Section, layers_of, sections_of

_HEAD_OPTIONS = {
    **{"ignore_thresh": ".7", "truth_thresh": "1", "iou_thresh": "0.213"},
    **{"nms_kind": "greedynms", "beta_nms": "0.6"},
}
_COMPARED = {  # option -> value where a section does not name it
    "convolutional": {
        **{"filters": "1", "size": "1", "stride": "1", "pad": "0", "batch_normalize": "0"},
        **{"activation": "logistic", "groups": "1", "dilation": "1"},
    },
    "maxpool": {"size": "1", "stride": "1"},
    "route": {"layers": "", "groups": "1", "group_id": "0"},
    "shortcut": {"from": "", "activation": "linear"},
    "upsample": {"stride": "2"},
    "yolo": {
        **{"mask": "", "anchors": "", "classes": "20", "num": "1"},
        **{"scale_x_y": "1", "new_coords": "0"},
    },
}
# Architecture and channels of its widest layer, by the number of heads.
_ARCHITECTURES = {0: ("cspdarknet53", 1024), 2: ("yolov4-tiny", 512), 3: ("yolov4", 1024)}
_ACTIVATIONS = {"mish": "mish", "swish": "silu", "leaky": "leaky"}


@dataclass(frozen=True)
class CfgSection:
    """One `[section]` of a cfg file."""

    kind: str
    options: dict[str, str]
    where: str  # file and line of its heading

    def number(self, key: str, default: str) -> int:
        """Return a whole number. Raises UserError where the option is none."""
        value = self.options.get(key, default)
        if not value.isdigit():
            raise UserError(self.where, f"[{self.kind}] {key} is no whole number", value)
        return int(value)

    def floats(self, key: str, default: str) -> list[float]:
        """Return a list of numbers, [0] where it is empty. Raises UserError where one is none."""
        value = self.options.get(key, default)
        try:
            return [float(text) for text in value.split(",") if text.strip()] or [0.0]
        except ValueError as error:
            problem = f"[{self.kind}] {key} holds what is no number"
            raise UserError(self.where, problem, value) from error


@dataclass(frozen=True)
class CfgNetwork:
    """What a cfg says of one of our networks."""

    model: ModelConfig
    classes: int
    img_size: int  # pixels
    preprocessing: Preprocessing

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that have parameters, in the order of a `.weights` file."""
        return layers_of(self.model, self.classes)


def write_cfg(model: ModelConfig, classes: int, img_size: int, letterbox: bool) -> str:
    """Return the text of the cfg that a network's .weights belongs to."""
    net = {"batch": "1", "subdivisions": "1"}
    net |= {"width": str(img_size), "height": str(img_size), "channels": "3"}
    if letterbox:
        net["letter_box"] = "1"
    parts = [("net", net)]
    for section in sections_of(model, classes):
        own = _HEAD_OPTIONS if section.kind == "yolo" else {}
        parts.append((section.kind, section.options | own))
    paragraphs = [
        "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())])
        for kind, options in parts
    ]
    return "\n\n".join(paragraphs) + "\n"


def parse_cfg(path: str | Path) -> list[CfgSection]:
    """Return the sections of a cfg file, in order. Raises UserError naming file and line."""
    sections: list[CfgSection] = []
    # Comments are in any encoding.
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        text = re.split(r"[#;]", line, maxsplit=1)[0].strip()
        if match := re.fullmatch(r"\[(\w+)\]", text):
            sections.append(CfgSection(match[1], {}, where))
        elif text:
            key, equals, value = text.partition("=")
            if not equals or not sections:
                expected = "[section] or key=value"
                raise UserError(where, "no line of a darknet cfg", ascii(text[:60]), expected)
            sections[-1].options[key.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        first = sections[0].kind if sections else "nothing"
        raise UserError(path, "no darknet cfg", first, "[net] first")
    return sections


def read_cfg(path: str | Path) -> CfgNetwork:
    """Return which of our networks a cfg describes.

    Raises:
        UserError: it describes another network; the first section that differs is named.
    """
    net, *sections = parse_cfg(path)
    model, classes = _guess(path, sections)
    _compare(path, sections, sections_of(model, max(classes, 1)))
    width, height = net.number("width", "416"), net.number("height", "416")
    if width != height or width % 32 or not width:
        problem = "not a square input of a multiple of 32"
        raise UserError(net.where, problem, f"{width}x{height}")
    if net.number("channels", "3") != 3:
        raise UserError(net.where, "[net] channels", net.options["channels"], "3")
    if model.architecture == "cspdarknet53":
        return CfgNetwork(model, classes, width, Preprocessing("crop"))
    is_letterbox = net.options.get("letter_box", "0") != "0"
    preprocessing = Preprocessing("letterbox" if is_letterbox else "stretch")
    return CfgNetwork(model, classes, width, preprocessing)


def _guess(path: str | Path, sections: Sequence[CfgSection]) -> tuple[ModelConfig, int]:
    """Return the network that a cfg seems to describe; `_compare` then finds where it differs."""
    convs = [section for section in sections if section.kind == "convolutional"]
    heads = [section for section in sections if section.kind == "yolo"]
    if not convs:
        raise UserError(path, "has no [convolutional] section")
    if len(heads) not in _ARCHITECTURES:
        problem = "another number of [yolo] sections"
        raise UserError(heads[0].where, problem, len(heads), "2 or 3")
    architecture, full_width = _ARCHITECTURES[len(heads)]
    norms = [conv for conv in convs if conv.options.get("batch_normalize", "0") == "1"] or convs
    first, last = (
        _ACTIVATIONS.get(conv.options.get("activation", "")) for conv in (norms[0], norms[-1])
    )
    if architecture == "yolov4" and first == last == "silu":
        architecture = "yolov4-silu"
    usual = ModelConfig(architecture).activations  # type: ignore[arg-type]
    widest = max(norms, key=lambda conv: conv.number("filters", "1"))
    depth = None if architecture == "yolov4-tiny" else depth_of(_blocks(sections))
    try:
        model = ModelConfig(
            architecture,  # type: ignore[arg-type]
            width_of(widest.number("filters", "1"), full_width),
            depth or 1.0,
            backbone_activation=None if first == usual[0] else first,  # type: ignore[arg-type]
            # The backbone alone has no neck.
            neck_activation=last if heads and last != usual[1] else None,  # type: ignore[arg-type]
        )
    except UserError as error:
        raise UserError(widest.where, f"[convolutional] filters: {error}") from error
    if not heads:
        return model, convs[-1].number("filters", "1")
    upsamples = [i for i, section in enumerate(sections) if section.kind == "upsample"]
    if len(upsamples) == 2 and sections[upsamples[1] - 1].options.get("size") == "3":
        model = replace(model, topdown_kernel=3)
    return _with_heads(model, heads), heads[0].number("classes", "20")


def _blocks(sections: Sequence[CfgSection]) -> tuple[int, ...]:
    """Return the numbers of residual sums behind the backbone's five convolutions of stride 2."""
    blocks: list[int] = []
    for section in sections:
        is_conv = section.kind == "convolutional"
        if is_conv and section.number("stride", "1") == 2 and len(blocks) < 5:
            blocks.append(0)
        elif section.kind == "shortcut" and blocks:
            blocks[-1] += 1
    return tuple(blocks)


def _with_heads(model: ModelConfig, heads: Sequence[CfgSection]) -> ModelConfig:
    """Read anchors, scale_x_y and decode of the heads; leave out the architecture's own."""
    by_stride = heads if len(heads) == 3 else heads[::-1]
    numbers = heads[0].floats("anchors", "")
    try:
        own = replace(
            model,
            anchors_wh_px=tuple(zip(numbers[::2], numbers[1::2], strict=False)),
            scale_x_y=tuple(head.floats("scale_x_y", "1")[0] for head in by_stride),
            box_decode="square" if heads[0].options.get("new_coords", "0") == "1" else "exp",
        )
    except UserError as error:
        raise UserError(heads[0].where, f"[yolo] {error}") from error
    anchors_agree = replace(own, anchors_wh_px=None).anchor_set == own.anchor_set
    scales_agree = replace(own, scale_x_y=None).anchor_set == own.anchor_set
    return replace(
        own,
        anchors_wh_px=None if anchors_agree else own.anchors_wh_px,
        scale_x_y=None if scales_agree else own.scale_x_y,
    )


def _compare(path: str | Path, sections: Sequence[CfgSection], expected: Sequence[Section]) -> None:
    compared = [section for section in sections if section.kind != "cost"]
    for idx, (section, ours) in enumerate(zip(compared, expected, strict=False)):
        where = section.where
        kind = f"[{section.kind}]"
        if section.kind != ours.kind:
            problem = f"section {idx} is none of our network's"
            raise UserError(where, problem, kind, f"[{ours.kind}]")
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
                raise UserError(where, f"{kind} {key} is not our network's", got, want)
    if len(compared) != len(expected):
        raise UserError(path, "another number of sections", len(compared), len(expected))


def _canonical(value: str, key: str, idx: int) -> str:
    """Return an option's value with relative section numbers made absolute and spaces left out."""
    if key in ("layers", "from"):
        numbers = [int(text) for text in value.split(",") if text.strip()]
        return ",".join(str(number if number >= 0 else idx + number) for number in numbers)
    if key in ("scale_x_y", "anchors"):
        return ",".join(f"{float(text):g}" for text in value.split(",") if text.strip())
    return value.replace(" ", "")

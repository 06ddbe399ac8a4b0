"""darknet's .cfg: written for our networks, and read to learn what a .weights file does not say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from mindyolo_v4.anchors import LAYOUTS
from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import Architecture, ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.cspdarknet53 import stages_of
from mindyolo_v4.models.sections import DARKNET_SLOPE, Layer, Section
from mindyolo_v4.models.topology import layers_of, sections_of
from mindyolo_v4.weights.cfg_sections import SUPPORTED, CfgSection, other_network, parse_cfg
from mindyolo_v4.weights.mapping import depth_of, width_of

_HEAD_OPTIONS = {
    **{"ignore_thresh": ".7", "truth_thresh": "1", "iou_thresh": "0.213"},
    **{"nms_kind": "greedynms", "beta_nms": "0.6"},
}
_COMPARED = {  # option -> value where a section does not name it
    "convolutional": {
        **{"filters": "1", "size": "1", "stride": "1", "pad": "0", "batch_normalize": "0"},
        **{"activation": "logistic", "groups": "1", "dilation": "1"},
        "leaky_slope": str(DARKNET_SLOPE),
    },
    "maxpool": {"size": "1", "stride": "1"},
    "route": {"layers": "", "groups": "1", "group_id": "0"},
    "shortcut": {
        **{"from": "", "activation": "linear"},
        **{"weights_type": "none", "weights_normalization": "none"},
    },
    "upsample": {"stride": "2"},
    "yolo": {"anchors": "", "classes": "20", "scale_x_y": "1", "new_coords": "0"},
}
_LONGEST_SIDE = 8192  # pixels, as of data.img_size
_WIDEST = {"yolov4x-mish": 1280, "yolov4-tiny": 512, "yolov4-tiny-3l": 512}  # channels; else 1024
_ACTIVATIONS = {"mish": "mish", "swish": "silu", "leaky": "leaky"}
_RESIDUALS = {  # weights_type of the first [shortcut] -> model.residual
    "per_feature": "weighted",
    "per_layer": "weighted",
    "per_channel": "weighted_channel",
}
_OTHER_NAMES = {"per_layer": "per_feature", "avg_relu": "relu"}  # of the same, for darknet


@dataclass(frozen=True)
class CfgNetwork:
    """What a cfg says of one of our networks."""

    model: ModelConfig
    classes: int
    img_size: int  # pixels; the width where there is a height
    preprocessing: Preprocessing
    img_height: int | None = None  # of an input that is not a square

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that have parameters, in the order of a `.weights` file."""
        return layers_of(self.model, self.classes)

    def layers_below(self, section: int | None) -> tuple[Layer, ...]:
        """Return the layers below a section; None stands for all."""
        return tuple(layer for layer in self.layers if section is None or layer.idx < section)


def write_cfg(
    model: ModelConfig, classes: int, img_size: int, letterbox: bool, img_height: int | None = None
) -> str:
    """Return the text of the cfg that a network's .weights belongs to."""
    net = {"batch": "1", "subdivisions": "1"}
    net |= {"width": str(img_size), "height": str(img_height or img_size), "channels": "3"}
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


def read_cfg(path: str | Path) -> CfgNetwork:
    """Return which of our networks a cfg describes.

    Raises:
        UserError: it describes another network, which is named where it is one of darknet's; else
            the first section that differs.
    """
    net, *sections = parse_cfg(path)
    try:
        model, classes = _guess(path, sections)
        _compare(path, sections, sections_of(model, max(classes, 1)))
    except UserError as error:
        other = other_network(sections)
        if other is None:
            raise
        raise UserError(
            path, f"describes {other}, which is not supported", None, SUPPORTED
        ) from error
    width = net.number("width", "416")
    height = net.number("height", "416")
    step = 1 if model.task == "classify" else 32
    sides = range(32, _LONGEST_SIDE + 1, step)
    if width not in sides or height not in sides:
        expected = f"32 to {_LONGEST_SIDE} in steps of {step}"
        raise UserError(net.where, "wrong input sides", f"{width}x{height}", expected)
    if net.number("channels", "3") != 3:
        raise UserError(net.where, "[net] channels", net.options["channels"], "3")
    if model.architecture == "cspdarknet53":
        if width != height:
            raise UserError(net.where, "a classifier needs a square input", f"{width}x{height}")
        return CfgNetwork(model, classes, width, Preprocessing("crop"))
    is_letterbox = net.options.get("letter_box", "0") != "0"
    preprocessing = Preprocessing("letterbox" if is_letterbox else "stretch")
    img_height = height if height != width else None
    return CfgNetwork(model, classes, width, preprocessing, img_height)


def _guess(path: str | Path, sections: Sequence[CfgSection]) -> tuple[ModelConfig, int]:
    """Return the network that a cfg seems to describe; `_compare` then finds where it differs."""
    convs = [section for section in sections if section.kind == "convolutional"]
    heads = [section for section in sections if section.kind == "yolo"]
    if not convs:
        raise UserError(path, "has no [convolutional] section")
    if len(heads) not in (0, 2, 3):
        problem = "another number of [yolo] sections"
        raise UserError(heads[0].where, problem, len(heads), "2 or 3")
    architecture = _architecture(sections, len(heads))
    norms = [conv for conv in convs if conv.options.get("batch_normalize", "0") == "1"] or convs
    first, last = (
        _ACTIVATIONS.get(conv.options.get("activation", "")) for conv in (norms[0], norms[-1])
    )
    if architecture == "yolov4" and first == last == "silu":
        architecture = "yolov4-silu"
    usual = ModelConfig(architecture).activations
    leaky = [conv for conv in norms if conv.options.get("activation") == "leaky"]
    slopes = [_slope(leaky[0]), _slope(leaky[-1])] if leaky else [DARKNET_SLOPE] * 2
    if first == "leaky" and slopes[0] != slopes[1]:
        first = "leaky001"  # the only activation with a slope of its own
    widest = max(norms, key=lambda conv: conv.number("filters", "1"))
    try:
        model = ModelConfig(
            architecture,
            width_of(widest.number("filters", "1"), _WIDEST.get(architecture, 1024)),
            depth_of(_blocks(sections), stages_of(architecture)) or 1.0,
            backbone_activation=None if first == usual[0] else first,  # type: ignore[arg-type]
            # The backbone alone has no neck.
            neck_activation=last if heads and last != usual[1] else None,  # type: ignore[arg-type]
            leaky_slope=slopes[1],
            residual=_residual(sections),  # type: ignore[arg-type]
        )
    except UserError as error:
        raise UserError(widest.where, f"[convolutional] {error}") from error
    if not heads:
        return model, convs[-1].number("filters", "1")
    upsamples = [i for i, section in enumerate(sections) if section.kind == "upsample"]
    if len(upsamples) == 2 and sections[upsamples[1] - 1].options.get("size") == "3":
        model = replace(model, topdown_kernel=3)
    return _with_heads(model, heads), heads[0].number("classes", "20")


def _architecture(sections: Sequence[CfgSection], heads: int) -> Architecture:
    """Return the network of ours that has the traits of a cfg; those with SiLU have their own."""
    if heads == 0:
        return "cspdarknet53"
    if heads == 2:
        return "yolov4-tiny"
    kinds = [section.kind for section in sections]
    routes = [section for section in sections if section.kind == "route"]
    if any(route.options.get("groups", "1") != "1" for route in routes):
        return "yolov4-tiny-3l"
    if kinds[4:5] != ["shortcut"]:  # the end of the first stage, if that has no bypass
        return "yolov4"
    # Behind the last pool and its route follow two convolutions, or four.
    last_pool = max((idx for idx, kind in enumerate(kinds) if kind == "maxpool"), default=0)
    is_x = kinds[last_pool + 4 : last_pool + 5] == ["convolutional"]
    return "yolov4x-mish" if is_x else "yolov4-csp"


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


def _residual(sections: Sequence[CfgSection]) -> str:
    """Return the `model.residual` that the first residual sum seems to have."""
    kinds = (
        section.options.get("weights_type", "none")
        for section in sections
        if section.kind == "shortcut"
    )
    return _RESIDUALS.get(next(kinds, "none"), "plain")


def _slope(conv: CfgSection) -> float:
    return (*conv.numbers("leaky_slope", "", float), DARKNET_SLOPE)[0]


def _with_heads(model: ModelConfig, heads: Sequence[CfgSection]) -> ModelConfig:
    """Read anchors, masks, scale_x_y and decode of the heads; leave out the architecture's own."""
    layout = LAYOUTS[model.architecture]
    by_stride = heads[::-1] if "tiny" in model.architecture else heads
    numbers = heads[0].numbers("anchors", "", float)
    anchors = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    every = ",".join(str(number) for number in range(len(anchors)))
    masks = tuple(head.numbers("mask", every, int) for head in by_stride)
    scales = tuple((*head.numbers("scale_x_y", "", float), 1.0)[0] for head in by_stride)
    is_usual = masks == layout.anchor_masks and len(anchors) == len(layout.anchors_wh_px)
    decode: Literal["exp", "square"] = "exp"
    if heads[0].options.get("new_coords", "0") == "1":
        decode = "square"
    try:
        return replace(
            model,
            anchors_wh_px=None if anchors == layout.anchors_wh_px else anchors,
            anchor_masks=None if is_usual else masks,
            scale_x_y=None if scales == layout.scale_x_y else scales,
            box_decode=None if decode == layout.box_decode else decode,
        )
    except UserError as error:
        raise UserError(heads[0].where, f"[yolo] {error}") from error


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
            if key == "leaky_slope" and ours.options["activation"] != "leaky":
                continue
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
    if key in ("scale_x_y", "anchors", "leaky_slope"):
        return ",".join(f"{float(text):g}" for text in value.split(",") if text.strip())
    value = value.replace(" ", "")
    return _OTHER_NAMES.get(value, value)

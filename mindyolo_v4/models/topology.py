"""Our networks as the sections of darknet's cfg files, each convolution with its name in our code.

The sections give the order of the values in a `.weights` file, the `.cfg` that belongs to it, and
name and shape of every parameter, without building the network.
"""

from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import scale_blocks, scale_channels
from mindyolo_v4.models.cspdarknet53 import STAGES, STEM_CHANNELS

DARKNET_SLOPE = 0.1  # of leaky, in darknet always; our cfg files say leaky_slope where it differs
# With batch normalisation; a prediction; the classifier's last layer; a weighted residual sum.
Kind = Literal["norm", "biased", "dense", "sum"]
_NORM = ("beta", "gamma", "moving_mean", "moving_variance")
_SHORTCUTS = {  # model.residual -> what its [shortcut] says besides
    "plain": {},
    "weighted": {"weights_type": "per_feature", "weights_normalization": "relu"},
    "weighted_channel": {"weights_type": "per_channel", "weights_normalization": "softmax"},
}


@dataclass(frozen=True)
class Layer:
    """One convolution, square kernel, the dense layer, or a weighted residual sum."""

    idx: int  # section number in the cfg, from 0
    name: str  # our cell
    kind: Kind
    out_channels: int  # of a sum: its weights
    in_channels: int
    kernel: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return its parameters' shapes by our names, in the order of a `.weights` file."""
        out = (self.out_channels,)
        if self.kind == "sum":
            return {f"{self.name}.weights": out}
        weight = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        if self.kind == "norm":
            norm = {f"{self.name}.bn.{part}": out for part in _NORM}
            return norm | {f"{self.name}.conv.weight": weight}
        is_dense = self.kind == "dense"
        return {f"{self.name}.bias": out, f"{self.name}.weight": weight[: 2 if is_dense else 4]}

    @property
    def is_output(self) -> bool:
        """Whether its values are an output of the network."""
        return self.kind in ("biased", "dense")

    @property
    def floats(self) -> int:
        """The number of values that a `.weights` file stores for it."""
        per_filter = 4 if self.kind == "norm" else 1
        return self.out_channels * (per_filter + self.in_channels * self.kernel**2)


@dataclass
class Section:
    """One `[section]` of a cfg."""

    kind: str
    options: dict[str, str]
    channels: int  # of its output
    layer: Layer | None = None


@dataclass
class _Walk:
    """Collects sections; each method returns the idx of the section that it appended."""

    model: ModelConfig
    sections: list[Section] = field(default_factory=list)

    @property
    def last(self) -> int:
        return len(self.sections) - 1

    def channels(self, idx: int) -> int:
        return 3 if idx < 0 else self.sections[idx].channels

    def scaled(self, channels: int) -> int:
        return scale_channels(channels, self.model.width)

    def conv(
        self, name: str, filters: int, kernel: int, act: str, stride: int = 1, kind: Kind = "norm"
    ) -> int:
        layer = Layer(self.last + 1, name, kind, filters, self.channels(self.last), kernel)
        options = {"batch_normalize": "1"} if kind == "norm" else {}
        sizes = {"filters": filters, "size": kernel, "stride": stride, "pad": 1}
        options |= {key: str(value) for key, value in sizes.items()}
        options["activation"] = {"silu": "swish"}.get(act, act.removesuffix("001"))
        slope = self.model.slope_of(act)
        if options["activation"] == "leaky" and slope != DARKNET_SLOPE:
            options["leaky_slope"] = _text(slope)
        return self.add("convolutional", options, filters, layer)

    def route(self, *sources: int, half: bool = False) -> int:
        channels = sum(self.channels(idx) for idx in sources)
        options = {"layers": ",".join(str(idx) for idx in sources)}
        if half:  # the second half of the channels
            options |= {"groups": "2", "group_id": "1"}
        return self.add("route", options, channels // 2 if half else channels)

    def shortcut(self, source: int) -> int:
        channels = self.channels(self.last)
        options = {"from": str(source), "activation": "linear"}
        options |= _SHORTCUTS[self.model.residual]
        conv = self.sections[-1].layer
        if self.model.residual == "plain" or conv is None:
            return self.add("shortcut", options, channels)
        # The convolution before is the last one of the block's branch.
        name = conv.name.removesuffix("conv2") + "sum"
        count = 2 * channels if self.model.residual == "weighted_channel" else 2
        layer = Layer(self.last + 1, name, "sum", count, 0, 0)
        return self.add("shortcut", options, channels, layer)

    def maxpool(self, size: int, stride: int) -> int:
        options = {"size": str(size), "stride": str(stride)}
        return self.add("maxpool", options, self.channels(self.last))

    def upsample(self) -> int:
        return self.add("upsample", {"stride": "2"}, self.channels(self.last))

    def add(
        self, kind: str, options: dict[str, str], channels: int, layer: Layer | None = None
    ) -> int:
        self.sections.append(Section(kind, options, channels, layer))
        return self.last


def sections_of(model: ModelConfig, classes: int) -> list[Section]:
    """Return the network's cfg sections, `[net]` left out."""
    walk = _Walk(model)
    append = {"cspdarknet53": _classifier, "yolov4-tiny": _tiny}.get(model.architecture, _yolov4)
    append(walk, classes)
    return walk.sections


def layers_of(model: ModelConfig, classes: int) -> tuple[Layer, ...]:
    """Return the network's layers that have parameters, in the order of a `.weights` file."""
    return tuple(section.layer for section in sections_of(model, classes) if section.layer)


def floats_of(layers: tuple[Layer, ...]) -> int:
    """Return the number of values that a `.weights` file stores for layers."""
    return sum(layer.floats for layer in layers)


def parameter_shapes(model: ModelConfig, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of our network by name."""
    layers = layers_of(model, classes)
    return {name: shape for layer in layers for name, shape in layer.shapes().items()}


def _backbone(walk: _Walk) -> tuple[int, int, int]:
    """Append CSPDarknet53; return the idx of its maps of stride 8, 16 and 32."""
    act = walk.model.activations[0]
    walk.conv("backbone.stem", walk.scaled(STEM_CHANNELS), 3, act)
    ends = []
    for number, stage in enumerate(STAGES, start=1):
        name = f"backbone.stage{number}"
        channels = walk.scaled(stage.channels)
        branch = walk.scaled(stage.branch)
        hidden = walk.scaled(stage.hidden)
        down = walk.conv(f"{name}.down", channels, 3, act, stride=2)
        bypass = walk.conv(f"{name}.bypass", branch, 1, act)
        walk.route(down)
        walk.conv(f"{name}.main_in", branch, 1, act)
        for block in range(scale_blocks(stage.blocks, walk.model.depth)):
            start = walk.last
            walk.conv(f"{name}.blocks.{block}.conv1", hidden, 1, act)
            walk.conv(f"{name}.blocks.{block}.conv2", branch, 3, act)
            walk.shortcut(start)
        main = walk.conv(f"{name}.main_out", branch, 1, act)
        walk.route(main, bypass)
        ends.append(walk.conv(f"{name}.transition", channels, 1, act))
    return ends[2], ends[3], ends[4]


def _classifier(walk: _Walk, classes: int) -> None:
    _backbone(walk)
    walk.add("avgpool", {}, walk.channels(walk.last))
    walk.conv("fc", classes, 1, "linear", kind="dense")
    walk.add("softmax", {"groups": "1"}, classes)


def _squeeze_expand(walk: _Walk, name: str, narrow: int, count: int, act: str) -> int:
    for number in range(count):
        filters, kernel = (narrow, 1) if number % 2 == 0 else (2 * narrow, 3)
        walk.conv(f"{name}.{number}", walk.scaled(filters), kernel, act)
    return walk.last


def _head(walk: _Walk, level: int, filters: int, classes: int, act: str) -> None:
    anchors = walk.model.anchor_set
    output = next(output for output in anchors.levels if output.stride == 2**level)
    walk.conv(f"head.expand{level}", walk.scaled(filters), 3, act)
    # With (2 sigma)^2 sizes, darknet's `new_coords`, the convolution itself ends in the logistic.
    end = "logistic" if walk.model.box_decode == "square" else "linear"
    channels = len(output.anchor_ids) * (5 + classes)
    walk.conv(f"head.predict{level}", channels, 1, end, kind="biased")
    square = {"new_coords": "1"} if walk.model.box_decode == "square" else {}
    options = {
        "mask": ",".join(str(number) for number in output.anchor_ids),
        "anchors": ", ".join(f"{_text(w)},{_text(h)}" for w, h in anchors.anchors_wh_px),
        "classes": str(classes),
        "num": str(len(anchors.anchors_wh_px)),
        "scale_x_y": _text(output.scale_x_y),
    }
    walk.add("yolo", square | options, 0)


def _text(number: float) -> str:
    return repr(number).removesuffix(".0")


def _yolov4(walk: _Walk, classes: int) -> None:
    map8, map16, _ = _backbone(walk)
    act = walk.model.activations[1]
    pre_spp = _squeeze_expand(walk, "neck.pre_spp", 512, 3, act)
    pools = []
    for size in (5, 9, 13):
        pools.append(walk.maxpool(size, 1))
        walk.route(*(pre_spp,) if size < 13 else (*reversed(pools), pre_spp))
    top5 = _squeeze_expand(walk, "neck.post_spp", 512, 3, act)

    tops = []
    for level, source, kernel in ((4, map16, 1), (3, map8, walk.model.topdown_kernel)):
        narrow = 16 * 2**level
        walk.conv(f"neck.reduce{level + 1}", walk.scaled(narrow), kernel, act)
        upsampled = walk.upsample()
        walk.route(source)
        lateral = walk.conv(f"neck.lateral{level}", walk.scaled(narrow), 1, act)
        walk.route(lateral, upsampled)
        tops.append(_squeeze_expand(walk, f"neck.topdown{level}", narrow, 5, act))
    top4, out = tops

    _head(walk, 3, 256, classes, act)
    for level, joined in ((4, top4), (5, top5)):
        narrow = 16 * 2**level
        walk.route(out)
        down = walk.conv(f"neck.down{level - 1}", walk.scaled(narrow), 3, act, stride=2)
        walk.route(down, joined)
        out = _squeeze_expand(walk, f"neck.bottomup{level}", narrow, 5, act)
        _head(walk, level, 2 * narrow, classes, act)


def _tiny(walk: _Walk, classes: int) -> None:
    backbone_act, act = walk.model.activations
    walk.conv("backbone.stem0", walk.scaled(32), 3, backbone_act, stride=2)
    walk.conv("backbone.stem1", walk.scaled(64), 3, backbone_act, stride=2)
    inner = 0
    for number, channels in enumerate((64, 128, 256), start=1):
        name = f"backbone.block{number}"
        wide = walk.scaled(channels)
        entry = walk.conv(f"{name}.entry", wide, 3, backbone_act)
        walk.route(entry, half=True)
        part1 = walk.conv(f"{name}.part1", wide // 2, 3, backbone_act)
        part2 = walk.conv(f"{name}.part2", wide // 2, 3, backbone_act)
        walk.route(part2, part1)
        inner = walk.conv(f"{name}.merge", wide, 1, backbone_act)
        walk.route(entry, inner)
        walk.maxpool(2, 2)
    walk.conv("backbone.final", walk.scaled(512), 3, backbone_act)
    reduced = walk.conv("neck.reduce", walk.scaled(256), 1, act)
    _head(walk, 5, 512, classes, act)
    walk.route(reduced)
    walk.conv("neck.lateral", walk.scaled(128), 1, act)
    upsampled = walk.upsample()
    walk.route(upsampled, inner)
    _head(walk, 4, 256, classes, act)

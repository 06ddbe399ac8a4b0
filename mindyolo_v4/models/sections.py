"""Sections of darknet's cfg files, and a walk that appends those of a network one by one."""

from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import scale_channels

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
class Walk:
    """The sections so far of a network; each method returns the idx of what it appended."""

    model: ModelConfig
    sections: list[Section] = field(default_factory=list)

    @property
    def last(self) -> int:
        return len(self.sections) - 1

    def channels(self, idx: int) -> int:
        return 3 if idx < 0 else self.sections[idx].channels

    def scaled(self, channels: int) -> int:
        return scale_channels(channels, self.model.channel_factor)

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
            options["leaky_slope"] = number_text(slope)
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


def number_text(number: float) -> str:
    """Return a number as cfg files write it."""
    return repr(number).removesuffix(".0")

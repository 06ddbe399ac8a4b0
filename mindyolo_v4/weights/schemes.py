"""How a foreign format names what we have: the language that each format's table is written in."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.weights.topology import Layer

IMAGENET_MEAN, IMAGENET_STD = (
    (123.675, 116.28, 103.53),
    (58.395, 57.12, 57.375),
)  # RGB, 0..255 scale


@dataclass(frozen=True)
class Place:
    """Where a format keeps one of our layers, and how it differs there."""

    prefix: str
    swapped: bool = (
        False  # its input is joined [B, A] where ours is [A, B]: the input halves change places
    )
    rows: Literal["all", "first", "second"] = (
        "all"  # ours is a half of the output rows of its convolution
    )
    kernel: int | None = (
        None  # its kernel where it differs from ours: ours lies in the middle of zeros
    )
    number: int = 0  # what stands for "#" in the suffixes


@dataclass(frozen=True)
class Suffixes:
    """What follows a layer's prefix in the name of each of its tensors."""

    norm_weight: str
    gamma: str
    beta: str
    mean: str
    variance: str
    biased_weight: str  # of a convolution without batch normalisation
    bias: str
    dense_weight: str = ".weight"
    dense_bias: str = ".bias"

    def names(self, layer: Layer, place: Place) -> dict[str, str]:
        """Return the format's name of each parameter of a layer, by ours, in the order of `Layer.shapes`."""
        suffixes = {
            "dense": (self.dense_bias, self.dense_weight),
            "biased": (self.bias, self.biased_weight),
            "norm": (self.beta, self.gamma, self.mean, self.variance, self.norm_weight),
        }[layer.kind]
        theirs = (place.prefix + suffix.replace("#", str(place.number)) for suffix in suffixes)
        return dict(zip(layer.shapes(), theirs, strict=True))


MINDSPORE_NORM = (".gamma", ".beta", ".moving_mean", ".moving_variance")
TORCH_NORM = (".weight", ".bias", ".running_mean", ".running_var")


@dataclass(frozen=True)
class Scheme:
    """One foreign format: its names, and what its weights want of the network that runs them."""

    name: str
    description: str
    suffixes: Suffixes
    place: Callable[
        [str], Place | None
    ]  # our layer -> where the format keeps it; None: it has no such layer
    bn_eps: float
    preprocessing: Preprocessing
    img_size: int  # pixels
    architectures: tuple[str, ...]  # that names and shapes do not tell apart, the usual one first
    leading: str = ""  # pattern of what may stand before a name and is dropped
    aliases: tuple[tuple[str, str], ...] = ()  # (how a name may begin instead, how it begins)
    ignored: str = ""  # pattern of tensors that are no part of the network
    exported_prefix: str = ""  # put before every name that we write
    variants: dict[str, object] = field(default_factory=dict)  # model options that its weights need

    def bare(self, name: str) -> str | None:
        """Return a tensor's name without what may stand before it; None where it is no part of the network."""
        name = self.usual(name)
        return None if self.ignored and re.search(self.ignored, name) else name

    def usual(self, name: str) -> str:
        """Return a tensor's name as most files spell it."""
        name = re.sub(rf"^(?:{self.leading})", "", name) if self.leading else name
        for other, usual in self.aliases:
            if name.startswith(other):
                name = usual + name.removeprefix(other)
        return name

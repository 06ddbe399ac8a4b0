"""How a foreign format names our parameters: what each format's table is made of."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.models.sections import Layer

# Mean and standard deviation, RGB, 0..255 scale.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
MINDSPORE_NORM = (".gamma", ".beta", ".moving_mean", ".moving_variance")
TORCH_NORM = (".weight", ".bias", ".running_mean", ".running_var")

_BLOCK = re.compile(r"backbone\.stage(\d)\.blocks\.(\d+)\.conv([12])")


@dataclass(frozen=True)
class Slot:
    """The name under which a format keeps one of our layers, and how its weight differs there."""

    prefix: str
    swapped: bool = False  # its input is [B, A] where ours is [A, B]: the halves are exchanged
    rows: Literal["all", "first", "second"] = "all"  # of its output rows, those that are ours
    kernel: int | None = None  # a larger kernel, with ours in the middle and zeros around it
    number: int = 0  # replaces "#" in the suffixes


@dataclass(frozen=True)
class Suffixes:
    """What follows a layer's prefix in the name of each of its tensors."""

    norm_weight: str  # of a convolution with batch normalisation
    norm: str  # before each of `norm_parts`
    norm_parts: tuple[str, str, str, str]  # MINDSPORE_NORM or TORCH_NORM
    biased_weight: str = ""  # of a convolution without batch normalisation
    bias: str = ""

    def names(self, layer: Layer, slot: Slot) -> dict[str, str]:
        """Return the format's names of a layer's parameters by ours, in their order."""
        gamma, beta, mean, variance = (self.norm + part for part in self.norm_parts)
        suffixes = {
            "dense": (".bias", ".weight"),
            "biased": (self.bias, self.biased_weight),
            "norm": (beta, gamma, mean, variance, self.norm_weight),
        }[layer.kind]
        theirs = (slot.prefix + suffix.replace("#", str(slot.number)) for suffix in suffixes)
        return dict(zip(layer.shapes(), theirs, strict=True))


@dataclass(frozen=True)
class Scheme:
    """One foreign format: its names, and what its weights need of the network that runs them."""

    name: str
    description: str
    suffixes: Suffixes
    slot: Callable[[str], Slot | None]  # by our layer; None: the format has no such layer
    bn_eps: float
    preprocessing: Preprocessing
    img_size: int  # pixels
    architectures: tuple[str, ...]  # that names and shapes do not tell apart, the usual one first
    leading: str = ""  # pattern of a name's beginning that is dropped
    aliases: tuple[tuple[str, str], ...] = ()  # (another beginning of a name, the usual one)
    ignored: str = ""  # pattern of tensors that are not part of the network
    exported_prefix: str = ""  # of every name that we write
    variants: dict[str, object] = field(default_factory=dict)  # model options that its weights need
    assumed: str = ""  # what its files do not tell, and what is taken instead

    def bare(self, name: str) -> str | None:
        """Return a tensor's usual name; None where it is not part of the network."""
        name = self.usual(name)
        return None if self.ignored and re.search(self.ignored, name) else name

    def usual(self, name: str) -> str:
        """Return a tensor's name as most files spell it."""
        name = re.sub(rf"^(?:{self.leading})", "", name) if self.leading else name
        for other, usual in self.aliases:
            if name.startswith(other):
                name = usual + name.removeprefix(other)
        return name


def lookup(
    slots: dict[str, Slot], block: Callable[[int, int, int], str | None]
) -> Callable[[str], Slot | None]:
    """Return `Scheme.slot`.

    Args:
        slots: by our layer.
        block: prefix of a residual block's convolution that is not in `slots`, by stage, block and
            convolution (1 or 2).
    """

    def slot(name: str) -> Slot | None:
        match = _BLOCK.fullmatch(name)
        if match is None or name in slots:
            return slots.get(name)
        prefix = block(*(int(number) for number in match.groups()))
        return Slot(prefix) if prefix else None

    return slot


def plain(prefixes: dict[str, str], swapped: Iterable[str] = ()) -> dict[str, Slot]:
    """Return the slots of layers by prefix; those in `swapped` have exchanged input halves."""
    swapped = set(swapped)
    return {name: Slot(prefix, swapped=name in swapped) for name, prefix in prefixes.items()}

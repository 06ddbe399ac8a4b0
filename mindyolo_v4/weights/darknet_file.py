"""The bytes of a darknet .weights file: a header, then the values of one layer after the other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.formats import Identity
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.topology import Layer, floats_of
from mindyolo_v4.weights.darknet_cfg import CfgNetwork

_CONV_N = re.compile(r"\.conv\.(\d+)$")
_OF_TRAINING = re.compile(r"_(best|last|final|\d+)$")  # what darknet appends to the stem of its cfg


@dataclass(frozen=True)
class Header:
    """Version, and the number of images that the weights were trained on."""

    numbers: tuple[int, int, int, int]  # major, minor, revision, images
    size: int  # bytes: 20, or 16 where the images are a 32-bit number (before version 0.2)

    @classmethod
    def read(cls, raw: bytes) -> "Header":
        """Read the header that `raw` (20 bytes or more) begins with."""
        major, minor, revision = (int(number) for number in np.frombuffer(raw, "<i4", 3))
        is_long = 10 * major + minor >= 2
        images = int(np.frombuffer(raw, "<u8" if is_long else "<u4", 1, offset=12)[0])
        return cls((major, minor, revision, images), 20 if is_long else 16)

    @classmethod
    def of_card(cls, card: Card) -> "Header":
        """Return the header that weights came with, or one for weights trained here."""
        numbers = card.origin.get("header")
        size = card.origin.get("header_bytes")
        limits = (1 << 31, 1 << 31, 1 << 31, 1 << (63 if size == 20 else 32))
        is_list = isinstance(numbers, list) and len(numbers) == len(limits)
        if card.source_format == "darknet" and is_list and size in (16, 20):
            pairs = zip(numbers, limits, strict=True)
            if all(type(number) is int and 0 <= number < limit for number, limit in pairs):
                return cls(tuple(numbers), size)
        return cls((0, 2, 5, 0), 20)

    def to_bytes(self) -> bytes:
        """Return the header as a file holds it."""
        *version, images = self.numbers
        counter = np.array(images, "<u8" if self.size == 20 else "<u4")
        return np.array(version, "<i4").tobytes() + counter.tobytes()


@dataclass(frozen=True)
class WeightsFile:
    """A darknet file whose header was read."""

    path: Path
    header: Header
    bytes: int  # of the whole file

    @property
    def floats(self) -> int:
        """The number of whole values behind the header."""
        return (self.bytes - self.header.size) // 4

    def has_length_of(self, layers: tuple[Layer, ...]) -> bool:
        """Tell whether the file holds these layers and nothing else."""
        return self.bytes == self.header.size + 4 * floats_of(layers)

    @property
    def section_in_name(self) -> int | None:
        """N of a name that ends in .conv.N."""
        match = _CONV_N.search(self.path.name)
        return int(match[1]) if match else None

    @property
    def cfg(self) -> Path | None:
        """The cfg of its name: net.cfg beside net.weights, net_best.weights and net.conv.N."""
        stem = Path(_CONV_N.sub(".x", self.path.name)).stem
        stems = (stem, _OF_TRAINING.sub("", stem))
        files = (self.path.with_name(f"{name}.cfg") for name in stems)
        return next((file for file in files if file.is_file()), None)

    def layers_below(self, section: int | None, network: CfgNetwork) -> tuple[Layer, ...] | None:
        """Return a network's layers below a section (None: all) where the file holds just these."""
        layers = network.layers
        if section is not None:
            layers = tuple(layer for layer in layers if layer.idx < section)
        return layers if layers and self.has_length_of(layers) else None

    def read(self, layers: tuple[Layer, ...]) -> dict[str, NDArray[np.float32]]:
        """Return the parameters of the layers that the file begins with, by our names."""
        values = np.memmap(self.path, "<f4", "r", self.header.size, (self.floats,))
        tensors = {}
        start = 0
        for layer in layers:
            for name, shape in layer.shapes().items():
                stop = start + int(np.prod(shape))
                tensors[name] = np.array(values[start:stop]).reshape(shape)
                start = stop
        return tensors

    def misfit(self, network: CfgNetwork, names: tuple[str, ...] | None) -> UserError:
        """Return the error that tells where a file ends whose length is not a network's."""
        expected = self.header.size + 4 * floats_of(network.layers)
        what = f"{expected} bytes for {network.model.architecture} with {network.classes} classes"
        problem = "is longer than the network"
        if self.bytes <= expected:
            idx, inside = self.cut(network.layers)
            problem = f"ends {'inside' if inside else 'before'} section {idx}"
            problem += ": cut short, or of another class count"
            if not names:
                problem += "; a file of the first N sections ends in .conv.N or needs --partial N"
        return UserError(self.path, problem, f"{self.bytes} bytes", what)

    def cut(self, layers: tuple[Layer, ...]) -> tuple[int, bool]:
        """Return the section that the file ends in or before, and whether it ends inside."""
        left = self.bytes - self.header.size
        border = 0
        for layer in layers:
            if left < 4 * layer.floats:
                return (layer.idx, True) if left else (border, False)
            left -= 4 * layer.floats
            border = layer.idx + 1
        return border, False


def open_weights(what: Identity) -> WeightsFile:
    """Read a darknet file's header. Raises UserError for other files."""
    path = what.path
    if what.kind != "darknet":
        raise UserError(path, "no darknet .weights file", what.description)
    size = path.stat().st_size
    with path.open("rb") as file:
        raw = file.read(20)
    if len(raw) < 20:
        problem = "is cut short inside its header"
        raise UserError(path, problem, f"{size} bytes", "20 bytes and the weights")
    return WeightsFile(path, Header.read(raw), size)


def write_weights(
    path: Path, header: Header, layers: tuple[Layer, ...], tensors: Mapping[str, NDArray]
) -> None:
    """Write a .weights file."""
    with path.open("wb") as file:
        file.write(header.to_bytes())
        for layer in layers:
            for name, shape in layer.shapes().items():
                file.write(np.ascontiguousarray(tensors[name], "<f4").reshape(shape).data)

"""The bytes of a darknet .weights file: a header, then the values of one layer behind those of the other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.formats import describe, identify
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.darknet_cfg import CfgNetwork
from mindyolo_v4.weights.topology import Layer, layers_of

_CONV_N = re.compile(r"\.conv\.(\d+)$")


@dataclass(frozen=True)
class Header:
    """Version, and the number of images that the weights have seen."""

    numbers: tuple[int, int, int, int]  # major, minor, revision, seen
    size: int  # bytes: 20, or 16 where `seen` is a 32-bit number (before version 0.2)

    @classmethod
    def read(cls, raw: bytes) -> "Header":
        """Read the header that `raw` (20 bytes or more) begins with."""
        major, minor, revision = (int(number) for number in np.frombuffer(raw, "<i4", 3))
        is_long = 10 * major + minor >= 2
        seen = int(np.frombuffer(raw, "<u8" if is_long else "<u4", 1, offset=12)[0])
        return cls((major, minor, revision, seen), 20 if is_long else 16)

    @classmethod
    def of_card(cls, card: Card) -> "Header":
        """Return the header that weights came with, or one for weights trained here."""
        if card.source_format == "darknet":
            return cls(tuple(card.origin["header"]), card.origin["header_bytes"])
        return cls((0, 2, 5, 0), 20)

    def to_bytes(self) -> bytes:
        """Return the header as it stands in a file."""
        *version, seen = self.numbers
        return (
            np.array(version, "<i4").tobytes()
            + np.array(seen, "<u8" if self.size == 20 else "<u4").tobytes()
        )


@dataclass(frozen=True)
class WeightsFile:
    """A darknet file whose header was read."""

    path: Path
    header: Header
    bytes: int  # of the whole file

    @property
    def floats(self) -> int:
        """Return the number of whole values behind the header."""
        return (self.bytes - self.header.size) // 4

    def has_length_of(self, layers: tuple[Layer, ...]) -> bool:
        """Tell whether the file holds these layers and nothing else."""
        return self.bytes == self.header.size + 4 * sum(layer.floats for layer in layers)

    @property
    def section_in_name(self) -> int | None:
        """Return N of a name that ends in .conv.N."""
        match = _CONV_N.search(self.path.name)
        return int(match[1]) if match else None

    @property
    def cfg(self) -> Path:
        """Return where its cfg would lie: net.cfg beside net.weights and beside net.conv.N."""
        return self.path.with_name(_CONV_N.sub(".x", self.path.name)).with_suffix(".cfg")

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Return all values as a view of the file."""
        return np.memmap(self.path, "<f4", "r", offset=self.header.size, shape=(self.floats,))

    def read(self, layers: tuple[Layer, ...]) -> dict[str, NDArray[np.float32]]:
        """Return the parameters of layers that the file holds from its beginning, by our names."""
        tensors, place = {}, 0
        for layer in layers:
            for name, shape in layer.shapes().items():
                count = int(np.prod(shape))
                tensors[name] = np.array(self.values[place : place + count]).reshape(shape)
                place += count
        return tensors

    def misfit(self, network: CfgNetwork, names: tuple[str, ...] | None) -> UserError:
        """Return the error that tells where a file ends that is not as long as a network asks for."""
        layers = layers_of(network.model, network.classes)
        expected = self.header.size + 4 * sum(layer.floats for layer in layers)
        what = f"{expected} bytes for {network.model.architecture} with {network.classes} classes"
        if self.bytes > expected:
            return UserError(self.path, "is longer than the network", f"{self.bytes} bytes", what)
        idx, inside = self.cut(layers)
        place = f"inside section {idx}" if inside else f"before section {idx}"
        hint = (
            "" if names else "; a file of the first N sections ends in .conv.N or needs --partial N"
        )
        return UserError(
            self.path,
            f"ends {place}: cut short, or of another class count{hint}",
            f"{self.bytes} bytes",
            what,
        )

    def cut(self, layers: tuple[Layer, ...]) -> tuple[int, bool]:
        """Return the section that the file ends in or before, and whether it ends inside."""
        left, border = self.bytes - self.header.size, 0
        for layer in layers:
            if left < 4 * layer.floats:
                return (layer.idx, True) if left else (border, False)
            left, border = left - 4 * layer.floats, layer.idx + 1
        return border, False


def open_weights(path: Path) -> WeightsFile:
    """Read a darknet file's header. Raises UserError where it is none."""
    size = path.stat().st_size
    if identify(path) != "darknet":
        raise UserError(path, "no darknet .weights file", describe(path))
    with path.open("rb") as file:
        raw = file.read(20)
    if len(raw) < 20:
        raise UserError(
            path, "is cut short inside its header", f"{size} bytes", "20 bytes and the weights"
        )
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

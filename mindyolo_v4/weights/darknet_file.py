"""The bytes of a darknet .weights file: a header, then the values of one layer after the other."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.formats import Identity
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.sections import Layer
from mindyolo_v4.models.topology import floats_of

# Bytes of a header -> its format; before version 0.2 the images were a 32-bit number.
HEADERS = {20: "<3iQ", 16: "<3iI"}
_CONV_N = re.compile(r"\.conv\.(\d+)$")
_OF_TRAINING = re.compile(r"_(best|last|final|\d+)$")  # what darknet appends to the stem of its cfg


@dataclass(frozen=True)
class WeightsFile:
    """A darknet file whose header was read."""

    path: Path
    header: tuple[int, ...]  # version (major, minor, revision), images that were trained on
    header_bytes: int  # a key of HEADERS
    bytes: int  # of the whole file

    @property
    def floats(self) -> int:
        """The number of whole values behind the header."""
        return (self.bytes - self.header_bytes) // 4

    def has_length_of(self, layers: tuple[Layer, ...]) -> bool:
        """Tell whether the file holds these layers and nothing else."""
        return bool(layers) and self.bytes == self.header_bytes + 4 * floats_of(layers)

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

    def read(self, layers: tuple[Layer, ...]) -> dict[str, NDArray[np.float32]]:
        """Return the parameters of the layers that the file begins with, by our names."""
        values = np.memmap(self.path, "<f4", "r", self.header_bytes, (self.floats,))
        tensors = {}
        start = 0
        for layer in layers:
            for name, shape in layer.shapes().items():
                stop = start + int(np.prod(shape))
                tensors[name] = np.array(values[start:stop]).reshape(shape)
                start = stop
        return tensors

    def cut(self, layers: tuple[Layer, ...]) -> tuple[int, bool]:
        """Return the section that the file ends in or before, and whether it ends inside."""
        left = self.bytes - self.header_bytes
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
    major, minor = struct.unpack_from("<2i", raw)
    header_bytes = 20 if 10 * major + minor >= 2 else 16
    header = struct.unpack_from(HEADERS[header_bytes], raw)
    return WeightsFile(path, header, header_bytes, size)


def write_weights(
    path: Path, header: bytes, layers: tuple[Layer, ...], tensors: Mapping[str, NDArray]
) -> None:
    """Write a .weights file."""
    with path.open("wb") as file:
        file.write(header)
        for layer in layers:
            for name, shape in layer.shapes().items():
                file.write(np.ascontiguousarray(tensors[name], "<f4").reshape(shape).data)

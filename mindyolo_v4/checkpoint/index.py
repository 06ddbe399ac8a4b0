"""The MindSpore .ckpt format: what a file holds, by name, read without MindSpore.

A file is a protobuf message: repeated Value {1: name, 2: {1: dimension, 2: type, 3: bytes}}.
A checksum of ten bytes may follow.
"""

import math
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.errors import UserError

CARD = "card"  # the text entry that makes a MindSpore checkpoint one of ours

_CRC_MARK = b"crc_num"  # before the crc32 of all that precedes it
_CRC_LENGTH = len(_CRC_MARK) + 10
_MOST_ENTRIES = 100_000
_BFLOAT16 = "BFloat16"
_TEXT = "str"
_NUMPY_TYPES = {
    **{"Bool": "|b1", "Float16": "<f2", "Float32": "<f4", "Float64": "<f8", _BFLOAT16: "<u2"},
    **{f"Int{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UInt{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
}


class FormatError(ValueError):
    """The bytes are not what the format demands."""


@dataclass(frozen=True)
class Entry:
    """One tensor or text of a MindSpore checkpoint."""

    shape: tuple[int, ...]
    dtype: str  # MindSpore's name (Float32, Int32 ...); "str" for text
    start: int  # where its bytes begin in the file
    size: int  # bytes

    @property
    def is_float(self) -> bool:
        """Whether it is a tensor of floating point."""
        return self.dtype in ("Float16", "Float32", "Float64", _BFLOAT16)

    def check(self, name: str) -> None:
        """Raise FormatError where type, shape and number of bytes contradict one another."""
        if self.dtype == _TEXT:
            return
        if self.dtype not in _NUMPY_TYPES:
            raise FormatError(f"{name} is of type {self.dtype}, which is not read")
        expected = math.prod(self.shape) * np.dtype(_NUMPY_TYPES[self.dtype]).itemsize
        is_sized = all(size < 1 << 31 for size in self.shape) and len(self.shape) <= 8
        if self.size != expected or not is_sized:
            held = f"{name} {self.shape} of {self.dtype} has {self.size} bytes"
            raise FormatError(f"{held}, expected {expected}")


@dataclass(frozen=True, eq=False)
class MindSporeFile:
    """A MindSpore .ckpt file, mapped into memory.

    The map stays what it is when a training replaces the file.
    """

    path: Path
    content: mmap.mmap
    index: dict[str, Entry]

    @classmethod
    def open(cls, path: str | Path) -> "MindSporeFile":
        """Read a file's index, and check every entry, before anything else uses it.

        Raises:
            FormatError: the file is cut short, contradicts itself, or is something else.
        """
        with Path(path).open("rb") as file:
            try:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise FormatError("is empty") from error
        index: dict[str, Entry] = {}
        try:
            for number, start, stop in message_fields(content, 0, _payload_end(content)):
                if number != 1 or len(index) == _MOST_ENTRIES:
                    raise FormatError("not a MindSpore checkpoint")
                name, entry = _read_value(content, start, stop)
                if name in index:
                    raise FormatError(f"holds {name} twice")
                entry.check(name)
                index[name] = entry
        except UnicodeDecodeError as error:
            raise FormatError("not a MindSpore checkpoint") from error
        if not index:
            raise FormatError("holds nothing")
        return cls(Path(path), content, index)

    def text(self, name: str) -> str | None:
        """Return a text entry, None where there is none. Raises UserError where it is damaged."""
        entry = self.index.get(name)
        if entry is None or entry.dtype != _TEXT:
            return None
        try:
            return self.content[entry.start : entry.start + entry.size].decode("utf-32-le")
        except UnicodeDecodeError as error:
            raise UserError(self.path, f"its text {name} is damaged") from error

    def tensor(self, name: str) -> NDArray:
        """Return a tensor as a view of the file; bfloat16 becomes float32."""
        entry = self.index[name]
        dtype = np.dtype(_NUMPY_TYPES[entry.dtype])
        count = math.prod(entry.shape)
        values = np.frombuffer(self.content, dtype, count, entry.start).reshape(entry.shape)
        if entry.dtype == _BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values

    def tensors(self) -> dict[str, NDArray]:
        """Return every tensor, by name. Raises UserError as `verify` does."""
        self.verify()
        names = [name for name, entry in self.index.items() if entry.dtype != _TEXT]
        return {name: self.tensor(name) for name in names}

    def verify(self) -> None:
        """Raise UserError where MindSpore's checksum does not match; files without one pass."""
        if not self._is_undamaged:
            raise UserError(self.path, "its checksum does not match: the file is damaged")

    @cached_property
    def _is_undamaged(self) -> bool:
        end = _payload_end(self.content)
        if end == len(self.content):
            return True
        checksum = zlib.crc32(memoryview(self.content)[:end])
        return checksum == int.from_bytes(self.content[end + len(_CRC_MARK) :], "big")


def _payload_end(data: mmap.mmap) -> int:
    end = len(data) - _CRC_LENGTH
    return end if end > 0 and data[end : end + len(_CRC_MARK)] == _CRC_MARK else len(data)


def _read_value(data: mmap.mmap, start: int, stop: int) -> tuple[str, Entry]:
    name = ""
    shape = []
    dtype = ""
    content = (0, 0)
    for number, first, last in message_fields(data, start, stop):
        if number == 1:
            name = data[first:last].decode("utf-8")
        elif number == 2:
            for inner, begin, finish in message_fields(data, first, last):
                if inner == 1:
                    shape.append(_varint(data, begin, finish)[0])
                elif inner == 2:
                    dtype = data[begin:finish].decode("utf-8")
                elif inner == 3:
                    content = (begin, finish - begin)
    if not name:
        raise FormatError("not a MindSpore checkpoint")
    return name, Entry(tuple(shape), dtype, *content)


def message_fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, first byte, byte behind it) of a protobuf message's fields.

    Only varint and length-delimited fields are accepted.
    """
    position = start
    while position < stop:
        key, position = _varint(data, position, stop)
        if key & 7 == 0:
            _, after = _varint(data, position, stop)
        elif key & 7 == 2:
            length, position = _varint(data, position, stop)
            after = position + length
            if after > stop:
                raise FormatError(f"is cut short: {len(data)} bytes, expected {after} or more")
        else:
            raise FormatError("not a MindSpore checkpoint")
        yield key >> 3, position, after
        position = after


def _varint(data: mmap.mmap, position: int, stop: int) -> tuple[int, int]:
    """Return a number of variable length, and the position behind it."""
    value = 0
    shift = 0
    while position < stop and shift < 64:
        byte = data[position]
        value |= (byte & 127) << shift
        position = position + 1
        shift = shift + 7
        if byte < 128:
            return value, position
    raise FormatError("is cut short")

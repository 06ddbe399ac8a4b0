"""Recognise weight files by their content, and read a MindSpore checkpoint's index without MindSpore."""

import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CARD = "card"  # the text entry that makes a MindSpore checkpoint one of ours

DESCRIPTIONS = {
    "mindyolo_v4": "a checkpoint of this package",
    "mindspore": "a MindSpore checkpoint of another package",
    "safetensors": "a safetensors file",
    "pytorch": "a PyTorch file",
    "darknet": "a darknet .weights file",
    "onnx": "an ONNX file",
    "empty": "an empty file",
    "unknown": "no weight file, or a damaged one",
}

_CRC_MARK, _CRC_LENGTH = b"crc_num", 17  # MindSpore appends this and ten bytes, the crc32 of all before
_CHUNK = 1 << 24


class FormatError(ValueError):
    """The bytes are not what the format demands."""


@dataclass(frozen=True)
class Entry:
    """One tensor or text of a MindSpore checkpoint."""

    shape: tuple[int, ...]
    dtype: str  # MindSpore's name (Float32, Int32 ...); "str" for text
    start: int  # where its bytes begin in the file (first slice)
    size: int  # bytes (first slice)


def identify(path: str | Path) -> str:
    """Return a key of DESCRIPTIONS for the file at `path`."""
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        return "empty"
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04" or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        return "pytorch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size:
        return "safetensors"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return "onnx"
    version = [int.from_bytes(head[place : place + 4], "little") for place in (0, 4)]
    if version[0] == 0 and version[1] in (1, 2) and size % 4 == 0:
        return "darknet"
    try:
        return "mindyolo_v4" if CARD in read_index(path) else "mindspore"
    except FormatError:
        return "unknown"


def read_index(path: str | Path) -> dict[str, Entry]:
    """Return what a MindSpore .ckpt holds, by name. Raises FormatError where the file is cut short or something else.

    The file is a protobuf: repeated Value {1: name, 2: {1: dimension, 2: type, 3: bytes}}, then perhaps a checksum.
    """
    index: dict[str, Entry] = {}
    with _mapped(path) as data:
        end = _payload_end(data)
        for number, start, stop in _fields(data, 0, end):
            if number != 1:
                raise FormatError("not a MindSpore checkpoint")
            name, entry = _read_value(data, start, stop)
            index.setdefault(name, entry)
    if not index:
        raise FormatError("holds nothing")
    return index


def read_text(path: str | Path, name: str) -> str | None:
    """Return a text entry of a MindSpore .ckpt, None where there is none. Raises FormatError."""
    entry = read_index(path).get(name)
    if entry is None or entry.dtype != "str":
        return None
    with Path(path).open("rb") as file:
        file.seek(entry.start)
        return file.read(entry.size).decode("utf-32-le")


def check_sum(path: str | Path) -> None:
    """Raise FormatError where the checksum that MindSpore appended does not match; files without one pass."""
    with _mapped(path) as data:
        end = _payload_end(data)
        if end == len(data):
            return
        found = 0
        for start in range(0, end, _CHUNK):
            found = zlib.crc32(data[start : min(start + _CHUNK, end)], found)
        if found != int.from_bytes(data[end + len(_CRC_MARK) :], "big"):
            raise FormatError("its checksum does not match: the file is damaged")


def _mapped(path: str | Path) -> mmap.mmap:
    with Path(path).open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise FormatError("is empty") from error


def _payload_end(data: mmap.mmap) -> int:
    end = len(data) - _CRC_LENGTH
    return end if end > 0 and data[end : end + len(_CRC_MARK)] == _CRC_MARK else len(data)


def _read_value(data: mmap.mmap, start: int, stop: int) -> tuple[str, Entry]:
    name, shape, dtype, content = "", [], "", (0, 0)
    for number, first, last in _fields(data, start, stop):
        if number == 1:
            name = _text(data[first:last])
        elif number == 2:
            for inner, begin, finish in _fields(data, first, last):
                if inner == 1:
                    shape.append(_varint(data, begin, finish)[0])
                elif inner == 2:
                    dtype = _text(data[begin:finish])
                elif inner == 3:
                    content = (begin, finish - begin)
    if not name:
        raise FormatError("not a MindSpore checkpoint")
    return name, Entry(tuple(shape), dtype, *content)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("not a MindSpore checkpoint") from error


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, first byte, byte behind) of a protobuf message; varint and length-delimited fields only."""
    place = start
    while place < stop:
        key, place = _varint(data, place, stop)
        if key & 7 == 0:
            _, after = _varint(data, place, stop)
            yield key >> 3, place, after
        elif key & 7 == 2:
            length, place = _varint(data, place, stop)
            after = place + length
            if after > stop:
                raise FormatError("is cut short")
            yield key >> 3, place, after
        else:
            raise FormatError("not a MindSpore checkpoint")
        place = after


def _varint(data: mmap.mmap, place: int, stop: int) -> tuple[int, int]:
    value, shift = 0, 0
    while place < stop and shift < 64:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise FormatError("is cut short")

"""Recognise weight files by their content, and read a MindSpore checkpoint's index without MindSpore."""

import io
import json
import mmap
import pickletools
import shlex
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

CARD = "card"  # the text entry that makes a MindSpore checkpoint one of ours

DESCRIPTIONS = {
    "mindyolo_v4": "a checkpoint of this package",
    "mindspore": "a MindSpore checkpoint of another package",
    "safetensors": "a safetensors file",
    "pytorch": "a PyTorch file",
    "darknet": "a darknet .weights file",
    "onnx": "an ONNX file",
    "html": "a web page, as a failed download leaves one",
    "text": "a text file",
    "empty": "an empty file",
    "unknown": "no weight file, or a damaged one",
}


@dataclass(frozen=True)
class Family:
    """Whose weights a file holds, told from one tensor that only theirs have."""

    name: str
    description: str
    module: str  # of `convert`, the command that converts them
    telltale: str  # how the name of that tensor ends


FAMILIES = (
    Family("mindyolo", "a mindyolo checkpoint", "mindyolo", "model.model.0.conv.weight"),
    Family(
        "mindspore_zoo",
        "a checkpoint of the MindSpore model zoo",
        "mindspore_zoo",
        "backbone.conv0.0.weight",
    ),
    Family(
        "tianxiaomo",
        "weights of Tianxiaomo's pytorch-YOLOv4",
        "pytorch",
        "down1.conv1.conv.0.weight",
    ),
    Family(
        "tianxiaomo_cfg", "weights of Tianxiaomo's cfg loader", "pytorch", "models.0.conv1.weight"
    ),
    Family(
        "wongkinyiu",
        "weights of WongKinYiu's PyTorch_YOLOv4",
        "pytorch",
        "module_list.0.Conv2d.weight",
    ),
    Family(
        "deepspark",
        "weights of DeepSpark's CSPDarknet53",
        "pytorch",
        "stage2.split0.layers.0.weight",
    ),
    Family("timm", "weights of timm's cspdarknet53", "pytorch", "stages.0.conv_exp.conv.weight"),
)
_OWN_TELLTALES = {
    "backbone.stem.conv.weight",
    "backbone.stem0.conv.weight",
}  # with CSPDarknet53; yolov4-tiny
WITHOUT_CARD = "a checkpoint of this package without its card, as one cut short is"

_HEADER_LIMIT = 1 << 26  # bytes of a file's table of contents that are looked at
_CRC_MARK, _CRC_LENGTH = (
    b"crc_num",
    17,
)  # MindSpore appends this and ten bytes, the crc32 of all before
_CHUNK = 1 << 24
_MAX_INSTRUCTIONS = 1_000_000  # of a pickle that are looked at


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
        head = file.read(512)
    if head[:4] == b"PK\x03\x04" or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        return "pytorch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
        return "safetensors"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return "onnx"
    version = [int.from_bytes(head[place : place + 4], "little") for place in (0, 4)]
    if version[0] == 0 and version[1] in (1, 2):
        return "darknet"
    try:
        return "mindyolo_v4" if CARD in read_index(path) else "mindspore"
    except FormatError:
        # Only now: the first bytes of a checkpoint, a mark and a length, may be a line feed and "<".
        if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<":
            return "html"
        return "text" if _is_text(head) else "unknown"


def family_of(path: str | Path) -> Family | None:
    """Return whose weights a MindSpore, PyTorch or safetensors file of others holds, None where no table knows them."""
    names = {
        "mindspore": read_index,
        "pytorch": _torch_strings,
        "safetensors": safetensors_header,
    }.get(identify(path))
    known: list[str] = []
    with suppress(FormatError):
        known = list(names(path)) if names else []
    return next(
        (f for f in FAMILIES if any(f".{name}".endswith(f".{f.telltale}") for name in known)), None
    )


def describe(path: str | Path) -> str:
    """Say in a few words what a file is."""
    kind, family = identify(path), family_of(path)
    if kind == "mindspore" and not _OWN_TELLTALES.isdisjoint(read_index(path)):
        return WITHOUT_CARD
    return family.description if family else DESCRIPTIONS[kind]


def convert_command(path: str | Path) -> str | None:
    """Return the command that makes a checkpoint of ours from a foreign file, None where there is none."""
    kind, family = identify(path), family_of(path)
    if family is not None:
        module = family.module
    elif kind == "darknet":
        module = "darknet"
    elif kind == "safetensors" and _holds_card(path):
        module = "safetensors"
    else:
        return None
    target = Path(path).with_suffix(".ckpt")
    if target.exists():  # the source itself, or something that the user wants to keep
        target = target.with_name(f"{target.stem}_converted.ckpt")
    return shlex.join(["python", "-m", f"convert.{module}", str(path), str(target)])


def safetensors_header(path: str | Path) -> dict[str, Any]:
    """Return the table of contents of a safetensors file: tensors by name, and `__metadata__`. Raises FormatError."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_LIMIT:
            raise FormatError(
                f"its header of {length} bytes is larger than any file of weights has"
            )
        raw = file.read(length)
        if len(raw) < length:
            raise FormatError(f"is cut short: {8 + len(raw)} bytes, expected {8 + length} or more")
        try:
            header = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise FormatError("its header is damaged") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise FormatError("its header is damaged")
    return header


def _holds_card(path: str | Path) -> bool:
    with suppress(FormatError):
        return CARD in safetensors_header(path).get("__metadata__", {})
    return False


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
        try:
            return file.read(entry.size).decode("utf-32-le")
        except UnicodeDecodeError as error:
            raise FormatError(f"its text {name} is damaged") from error


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


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "replace")
    # The last character may be cut through.
    marks = "\t\n\r\f\ufeff\ufffd"
    return "\ufffd" not in text[:-1] and all(
        letter.isprintable() or letter in marks for letter in text
    )


def _torch_strings(path: str | Path) -> set[str]:
    """Return the strings in a PyTorch file's pickles, found by reading their opcodes: nothing is built or run."""
    path = Path(path)
    pickles: IO[bytes]
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entry = next(
                    info for info in archive.infolist() if info.filename.endswith("data.pkl")
                )
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > _HEADER_LIMIT:
                    raise FormatError(
                        "no PyTorch file: its table of contents is compressed or too long"
                    )
                pickles = io.BytesIO(archive.read(entry))
        else:
            with path.open("rb") as file:
                pickles = io.BytesIO(file.read(_HEADER_LIMIT))
    except (
        zipfile.BadZipFile,
        StopIteration,
        NotImplementedError,
        RuntimeError,
        OSError,
        ValueError,
    ) as error:
        raise FormatError("no PyTorch file") from error
    found: set[str] = set()
    with suppress(ValueError, EOFError):  # damaged, or the newer layout's only pickle is read
        for _ in range(
            5
        ):  # the older layout has as many pickles, and bytes that are none behind them
            instructions = islice(pickletools.genops(pickles), _MAX_INSTRUCTIONS)
            found.update(value for _, value, _ in instructions if isinstance(value, str))
    return found


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
                raise FormatError(f"is cut short: {len(data)} bytes, expected {after} or more")
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

"""Read the state dict of a PyTorch file without PyTorch, running nothing that the file holds."""

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.torch_pickle import (
    BFLOAT16,
    MAX_PICKLE_BYTES,
    STORAGE_TYPES,
    Storage,
    Tensor,
    read_pickle,
)

# Where a checkpoint keeps its state dict, best first: averaged weights are the evaluated ones.
# WongKinYiu keeps them under `model`, timm under `state_dict_ema`, torchvision under `model_ema`.
STATE_KEYS = (
    *("ema", "state_dict_ema", "ema_state_dict", "model_ema"),
    *("state_dict", "model", "model_state_dict", "net", "module"),
)
PREFIXES = ("module.", "_orig_mod.")  # of every name under DataParallel and torch.compile
MAX_DEPTH = 3  # of state dicts inside of dicts

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_READ = 16 << 20

Value = TypeVar("Value")
Starts = dict[str, int]  # storage key -> the first byte of its content in the file


class _Mapped(mmap.mmap):
    """A file in memory that refuses to read large pieces: a zip directory, a pickle's string."""

    def read(self, size: int | None = None) -> bytes:
        rest = len(self) - self.tell()
        size = rest if size is None or size < 0 else min(size, rest)
        if size > _MAX_READ:
            raise ValueError(f"{size} bytes in one piece")
        return super().read(size)

    def readline(self) -> bytes:
        if self.find(b"\n", self.tell(), self.tell() + _MAX_READ) < 0:
            raise ValueError("a line without end")
        return super().readline()


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Return the state dict of a PyTorch file, by names without the prefixes of wrappers.

    float16, bfloat16 and float64 become float32. Where type and layout allow, an array is a
    read-only view of the mapped file.

    Raises:
        UserError: the file holds no whole state dict.
    """
    path = Path(path)
    data = _map(path)
    if data[:4] == b"PK\x03\x04":
        content, starts = _read_zip(path, data)
    elif data[:1] == b"\x80":
        content, starts = _read_legacy(path, data)
    else:
        got = f"{bytes(data[:16])!r} at its start"
        raise UserError(path, "is no PyTorch file", got, "a zip archive or a pickle")
    state = plain_names(path, _find_state(path, content))
    # Many tensors over one storage could, as copies, take any amount of memory.
    needed = sum(4 * math.prod(tensor.shape) for tensor in state.values())
    if needed > 4 * len(data):
        problem = "its tensors take more memory than its size explains"
        raise UserError(path, problem, needed, f"at most {4 * len(data)} bytes")
    return {name: _to_array(path, name, tensor, data, starts) for name, tensor in state.items()}


def _map(path: Path) -> _Mapped:
    try:
        with path.open("rb") as file:
            return _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise UserError(path, "is empty", "0 bytes") from error
    except OSError as error:
        raise UserError(path, "cannot be read", error.strerror) from error


def _read_zip(path: Path, data: _Mapped) -> tuple[object, Starts]:
    try:
        with zipfile.ZipFile(data) as archive:  # type: ignore[call-overload]
            entries = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        expected = "a zip archive with its directory at the end"
        problem = f"is cut short or damaged: {error}"
        raise UserError(path, problem, f"{len(data)} bytes", expected) from error
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        some = ", ".join(list(entries)[:3])
        problem = "is a zip archive but no PyTorch file"
        raise UserError(path, problem, some, "one folder that holds data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in entries:
        info = entries[f"{root}byteorder"]
        start = _entry_start(path, data, info)
        order = bytes(data[start : start + min(info.file_size, 16)])
        if order != b"little":
            _refuse_byte_order(path, str(order))
    info = entries[pickles[0]]
    if info.file_size > MAX_PICKLE_BYTES:
        limit = f"at most {MAX_PICKLE_BYTES} bytes"
        raise UserError(path, "data.pkl is too long", info.file_size, limit)
    start = _entry_start(path, data, info)
    content, storages, _ = read_pickle(path, data, start, start + info.file_size)
    starts = {}
    for key, storage in storages.items():
        entry = entries.get(f"{root}data/{key}")
        if entry is None or entry.file_size < storage.size:
            got = "nothing" if entry is None else f"{entry.file_size} bytes"
            problem = f"storage {key} is not whole"
            raise UserError(path, problem, got, f"{storage.size} bytes")
        starts[key] = _entry_start(path, data, entry)
    return content, starts


def _entry_start(path: Path, data: _Mapped, info: zipfile.ZipInfo) -> int:
    """Return where a zip entry's content begins, after checking that it is stored and undamaged."""
    name = info.filename
    is_stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
    if not is_stored or info.flag_bits & 1:
        problem = f"{name} is compressed or encrypted, which PyTorch does not do"
        raise UserError(path, problem, info.compress_size, info.file_size)
    header = data[info.header_offset : info.header_offset + 30] if info.header_offset >= 0 else b""
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        problem = f"{name} is not where the directory of the archive says"
        raise UserError(path, problem, info.header_offset)
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    start = info.header_offset + 30 + name_length + extra_length
    stop = start + info.file_size
    if stop > len(data):
        raise UserError(
            path, f"{name} reaches behind the end", f"{len(data)} bytes", f"{stop} bytes"
        )
    checksum = zlib.crc32(memoryview(data)[start:stop])
    if info.CRC not in (checksum, 0):  # 0: PyTorch can be told to compute none
        raise UserError(path, f"{name} is damaged", f"checksum {checksum:08x}", f"{info.CRC:08x}")
    return start


def _refuse_byte_order(path: Path, order: str) -> NoReturn:
    raise UserError(path, "was written on a machine of another byte order", order, "little")


def _read_legacy(path: Path, data: _Mapped) -> tuple[object, Starts]:
    """Read the layout before PyTorch 1.6: five pickles, then each storage's length and content."""
    magic, _, stop = read_pickle(path, data, 0, len(data))
    if magic != _LEGACY_MAGIC:
        problem = "is a pickle but no PyTorch file"
        raise UserError(path, problem, type(magic).__name__, "PyTorch's magic number")
    protocol, _, stop = read_pickle(path, data, stop, len(data))
    if protocol != _LEGACY_PROTOCOL:
        problem = "is of an unknown protocol of PyTorch"
        raise UserError(path, problem, type(protocol).__name__, _LEGACY_PROTOCOL)
    system, _, stop = read_pickle(path, data, stop, len(data))
    if isinstance(system, dict) and system.get("little_endian") is False:
        _refuse_byte_order(path, "big")
    content, storages, stop = read_pickle(path, data, stop, len(data))
    keys, _, stop = read_pickle(path, data, stop, len(data))
    names = keys if isinstance(keys, list) else []
    are_texts = all(isinstance(name, str) for name in names)
    if names != keys or not are_texts or set(names) != set(storages):
        problem = "is damaged: its list of storages does not fit its tensors"
        raise UserError(path, problem, None, f"{len(storages)} keys")
    whole = stop + sum(8 + storages[key].size for key in names)
    if whole > len(data):
        raise UserError(path, "is cut short", f"{len(data)} bytes", f"{whole} bytes")
    starts = {}
    for key in names:
        (count,) = struct.unpack_from("<q", data, stop)
        if count != storages[key].length:
            problem = f"storage {key} is damaged: its length"
            raise UserError(path, problem, count, storages[key].length)
        starts[key] = stop + 8
        stop += 8 + storages[key].size
    return content, starts


def _find_state(path: Path, content: object) -> Mapping[str, Tensor]:
    state = _search(content, MAX_DEPTH)
    if state is not None:
        return state
    got = type(content).__name__
    if isinstance(content, dict):
        got = ", ".join(list(content)[:12]) or "{}"
    expected = f"names to tensors, or one of {', '.join(STATE_KEYS)}"
    raise UserError(path, "holds no state dict", got, expected)


def _search(content: object, depth: int) -> Mapping[str, Tensor] | None:
    if not isinstance(content, dict) or depth == 0:
        return None
    if content and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        return content
    candidates = (_search(content[key], depth - 1) for key in STATE_KEYS if key in content)
    return next((state for state in candidates if state is not None), None)


def plain_names(path: Path, state: Mapping[str, Value]) -> dict[str, Value]:
    """Drop the prefixes of wrappers. Raises UserError where two tensors then have one name."""
    plain: dict[str, Value] = {}
    for full, tensor in state.items():
        name = full
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if name in plain:
            raise UserError(path, "holds two tensors of one name", full)
        plain[name] = tensor
    return plain


def _to_array(path: Path, name: str, tensor: Tensor, data: _Mapped, starts: Starts) -> np.ndarray:
    storage = tensor.storage
    shape = tensor.shape
    short = STORAGE_TYPES[storage.kind] == BFLOAT16
    dtype = np.dtype("<u2" if short else STORAGE_TYPES[storage.kind])
    count = math.prod(shape)
    axes = list(zip(shape, tensor.strides, strict=True))
    # A broadcast tensor with one stored row is refused: its copy could be of any size.
    reach = tensor.offset + sum((size - 1) * stride for size, stride in axes) + 1
    if count and (reach > storage.length or count > storage.length):
        problem = f"tensor {name} reaches behind its storage"
        raise UserError(path, problem, max(reach, count), f"<= {storage.length}")
    if count == 0:
        if math.prod(size for size in shape if size) > 1 << 40:  # more than NumPy can address
            problem = f"tensor {name} is empty, yet of an impossible shape"
            raise UserError(path, problem, str(shape))
        return _as_float32(np.zeros(shape, dtype), storage)
    strides = [stride * dtype.itemsize if size > 1 else 0 for size, stride in axes]
    start = starts[storage.key] + tensor.offset * dtype.itemsize
    return _as_float32(np.ndarray(shape, dtype, data, start, strides), storage)


def _as_float32(stored: np.ndarray, storage: Storage) -> np.ndarray:
    if STORAGE_TYPES[storage.kind] == BFLOAT16:
        bits = stored.astype(np.uint32, order="C")
        return np.left_shift(bits, np.uint32(16), out=bits).view(np.float32)
    if stored.dtype.kind == "f":
        stored = stored.astype(np.float32, copy=False)
    return np.require(stored, requirements=["C", "A"])

"""Read the state dict of a PyTorch file without PyTorch, and without running anything that the file holds."""

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
    printable,
    read_pickle,
)

# Where a checkpoint keeps its state dict, best first: averaged weights are those that were evaluated. WongKinYiu keeps
# averaged ones under `model`, timm under `state_dict_ema`, torchvision under `model_ema`.
STATE_KEYS = (
    *("ema", "state_dict_ema", "ema_state_dict", "model_ema"),
    *("state_dict", "model", "model_state_dict", "net", "module"),
)
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
MAX_DEPTH = 3  # of state dicts inside of dicts

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_READ = 16 << 20
_CHUNK = 1 << 24

Value = TypeVar("Value")
Places = dict[str, int]  # storage key -> the first byte of its content in the file


class _Mapped(mmap.mmap):
    """A file in memory that hands out no large pieces as bytes: zipfile reads a directory, pickletools a string."""

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
    """Return the state dict of a PyTorch file (.pth, .pt, .tar), names without the prefixes of wrappers.

    float16, bfloat16 and float64 come as float32, other types as they are. Where type and layout allow, an array is a
    read-only view of the mapped file. Raises UserError for every file that holds no whole state dict.
    """
    path = Path(path)
    data = _map(path)
    if data[:4] == b"PK\x03\x04":
        content, places = _read_zip(path, data)
    elif data[257:262] == b"ustar":
        raise UserError(
            path,
            "is in PyTorch's tar layout of 2016",
            expected="a file saved again by a PyTorch of 0.4 to 1.5",
        )
    elif data[:1] == b"\x80":
        content, places = _read_legacy(path, data)
    else:
        raise UserError(
            path,
            "is no PyTorch file",
            f"{bytes(data[:16])!r} at its start",
            "a zip archive or a pickle",
        )
    state = plain_names(path, _find_state(path, content))
    _check_copies(path, state, len(data))
    return {name: _to_array(path, name, tensor, data, places) for name, tensor in state.items()}


def _map(path: Path) -> _Mapped:
    try:
        with path.open("rb") as file:
            return _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise UserError(path, "is empty", "0 bytes") from error
    except OSError as error:
        raise UserError(path, "cannot be read", error.strerror) from error


def _read_zip(path: Path, data: _Mapped) -> tuple[object, Places]:
    try:
        with zipfile.ZipFile(data) as archive:  # type: ignore[call-overload]
            entries = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        _refuse_cut_zip(path, data, error)
    roots = [
        name.removesuffix("data.pkl")
        for name in entries
        if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        some = printable(", ".join(list(entries)[:3]))
        raise UserError(
            path, "is a zip archive but no PyTorch file", some, "one folder that holds data.pkl"
        )
    root = roots[0]
    if f"{root}byteorder" in entries:
        info = entries[f"{root}byteorder"]
        place = _entry_place(path, data, info)
        order = bytes(data[place : place + min(info.file_size, 16)])
        if order != b"little":
            raise UserError(
                path,
                "was written on a machine of another byte order",
                printable(str(order)),
                "little",
            )
    info = entries[f"{root}data.pkl"]
    if info.file_size > MAX_PICKLE_BYTES:
        raise UserError(
            path, "data.pkl is too long", info.file_size, f"at most {MAX_PICKLE_BYTES} bytes"
        )
    start = _entry_place(path, data, info)
    content, storages, _ = read_pickle(path, data, start, start + info.file_size)
    places = {}
    for key, storage in storages.items():
        info = entries.get(f"{root}data/{key}")
        if info is None or info.file_size < storage.size:
            found = "nothing" if info is None else f"{info.file_size} bytes"
            raise UserError(
                path, f"storage {printable(key)} is not whole", found, f"{storage.size} bytes"
            )
        places[key] = _entry_place(path, data, info)
    return content, places


def _entry_place(path: Path, data: _Mapped, info: zipfile.ZipInfo) -> int:
    """Return where the content of a zip entry begins, after checking that it is stored, whole and undamaged."""
    name = printable(info.filename)
    if (
        info.compress_type != zipfile.ZIP_STORED
        or info.compress_size != info.file_size
        or info.flag_bits & 1
    ):
        raise UserError(
            path,
            f"{name} is compressed or encrypted, which PyTorch does not do",
            info.compress_size,
            info.file_size,
        )
    header = data[info.header_offset : info.header_offset + 30] if info.header_offset >= 0 else b""
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise UserError(
            path, f"{name} is not where the directory of the archive says", info.header_offset
        )
    name_length, extra_length = struct.unpack_from("<HH", header, 26)
    start = info.header_offset + 30 + name_length + extra_length
    stop = start + info.file_size
    if stop > len(data):
        raise UserError(
            path, f"{name} reaches behind the end", f"{len(data)} bytes", f"{stop} bytes"
        )
    checksum = 0
    with memoryview(data) as view:
        for place in range(start, stop, _CHUNK):
            checksum = zlib.crc32(view[place : min(place + _CHUNK, stop)], checksum)
    if info.CRC not in (checksum, 0):  # 0: PyTorch can be told to compute none
        raise UserError(path, f"{name} is damaged", f"checksum {checksum:08x}", f"{info.CRC:08x}")
    return start


def _refuse_cut_zip(path: Path, data: _Mapped, error: Exception) -> NoReturn:
    """Say how many bytes are missing: data.pkl comes first in the file, and tells the sizes of all that follows."""
    expected = "a zip archive with its directory at the end"
    if len(data) > 30:
        name_length, extra_length = struct.unpack_from("<HH", data, 26)
        start = 30 + name_length + extra_length
        if data[30 : 30 + name_length].endswith(b"/data.pkl"):
            try:
                _, storages, stop = read_pickle(path, data, start, len(data))
            except UserError:  # cut inside of data.pkl: nothing more is known
                storages, stop = {}, 0
            around = (
                30 + 46 + 2 * (name_length - 2)
            )  # headers of an entry: before its content and in the directory
            whole = stop + sum(storage.size + around for storage in storages.values())
            expected = f"more than {whole} bytes" if whole > len(data) else expected
    raise UserError(
        path, f"is cut short or damaged: {printable(str(error))}", f"{len(data)} bytes", expected
    )


def _read_legacy(path: Path, data: _Mapped) -> tuple[object, Places]:
    """Read the layout from before PyTorch 1.6: five pickles, then each storage as its length and raw content."""
    magic, _, place = read_pickle(path, data, 0, len(data))
    if magic != _LEGACY_MAGIC:
        raise UserError(
            path, "is a pickle but no PyTorch file", type(magic).__name__, "PyTorch's magic number"
        )
    protocol, _, place = read_pickle(path, data, place, len(data))
    if protocol != _LEGACY_PROTOCOL:
        raise UserError(
            path, "is of an unknown protocol of PyTorch", type(protocol).__name__, _LEGACY_PROTOCOL
        )
    system, _, place = read_pickle(path, data, place, len(data))
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise UserError(path, "was written on a machine of another byte order", "big", "little")
    content, storages, place = read_pickle(path, data, place, len(data))
    keys, _, place = read_pickle(path, data, place, len(data))
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or set(keys) != set(storages)
    ):
        raise UserError(
            path,
            "is damaged: its list of storages does not fit its tensors",
            None,
            f"{len(storages)} keys",
        )
    whole = place + sum(8 + storages[key].size for key in keys)
    if whole > len(data):
        raise UserError(path, "is cut short", f"{len(data)} bytes", f"{whole} bytes")
    places = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, place)
        if count != storages[key].count:
            raise UserError(
                path, f"storage {printable(key)} is damaged: its length", count, storages[key].count
            )
        places[key] = place + 8
        place += 8 + storages[key].size
    return content, places


def _find_state(path: Path, content: object) -> Mapping[str, Tensor]:
    state = _search(content, MAX_DEPTH)
    if state is None:
        found = type(content).__name__
        if isinstance(content, dict):
            found = (
                printable(
                    ", ".join(str(key) for key in list(content)[:12] if isinstance(key, str | int))
                )
                or "{}"
            )
        raise UserError(
            path,
            "holds no state dict",
            found,
            f"names to tensors, or one of {', '.join(STATE_KEYS)}",
        )
    return state


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
            raise UserError(path, "holds two tensors of one name", printable(full))
        plain[name] = tensor
    return plain


def _check_copies(path: Path, state: Mapping[str, Tensor], file_size: int) -> None:
    """Refuse many tensors over one storage: as copies they could take any amount of memory."""
    needed, limit = sum(4 * math.prod(tensor.shape) for tensor in state.values()), 4 * file_size
    if needed > limit:
        raise UserError(
            path,
            "its tensors take more memory than its size explains",
            needed,
            f"at most {limit} bytes",
        )


def _to_array(path: Path, name: str, tensor: Tensor, data: _Mapped, places: Places) -> np.ndarray:
    storage, shape = tensor.storage, tensor.shape
    short = STORAGE_TYPES[storage.kind] == BFLOAT16
    kind = np.dtype("<u2" if short else STORAGE_TYPES[storage.kind])
    count = math.prod(shape)
    # One row of a broadcast tensor may be stored; nobody saves weights so, and its copy could be of any size.
    reach = (
        tensor.offset
        + sum((size - 1) * stride for size, stride in zip(shape, tensor.strides, strict=True))
        + 1
    )
    if count and (reach > storage.count or count > storage.count):
        raise UserError(
            path,
            f"tensor {printable(name)} reaches behind its storage",
            max(reach, count),
            f"<= {storage.count}",
        )
    if count == 0:
        if math.prod(size for size in shape if size) > 1 << 40:  # more than NumPy can address
            raise UserError(
                path, f"tensor {printable(name)} is empty, yet of an impossible shape", str(shape)
            )
        return _as_float32(np.zeros(shape, kind), storage)
    strides = [
        stride * kind.itemsize if size > 1 else 0
        for size, stride in zip(shape, tensor.strides, strict=True)
    ]
    start = places[storage.key] + tensor.offset * kind.itemsize
    stored: np.ndarray = np.ndarray(shape, kind, buffer=data, offset=start, strides=strides)
    return _as_float32(stored, storage)


def _as_float32(stored: np.ndarray, storage: Storage) -> np.ndarray:
    if STORAGE_TYPES[storage.kind] == BFLOAT16:
        bits = stored.astype(np.uint32, order="C")
        return np.left_shift(bits, np.uint32(16), out=bits).view(np.float32)
    if stored.dtype.kind == "f":
        stored = stored.astype(np.float32, copy=False)
    return np.require(stored, requirements=["C", "A"])

"""PyTorch files made by hand, without PyTorch, for tests: both layouts, and any lie in them."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
KINDS = {
    **{
        "f8": "DoubleStorage",
        "f4": "FloatStorage",
        "f2": "HalfStorage",
        "i8": "LongStorage",
        "i4": "IntStorage",
    },
    **{"i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"},
}


@dataclass(frozen=True)
class Name:
    """A global of the pickle, written as it stands and never looked up here."""

    module: str
    name: str

    def __call__(self) -> None:
        raise AssertionError("only its name is used")


@dataclass(frozen=True)
class Call:
    """A call that the pickle asks for: `function(*arguments)`, perhaps a state for its result."""

    function: Name
    arguments: tuple = ()
    state: object = None

    def __reduce__(self) -> tuple:
        return (
            (self.function, self.arguments)
            if self.state is None
            else (self.function, self.arguments, self.state)
        )


@dataclass(frozen=True, eq=False)
class Part:
    """A tensor over a storage with numbers in file order; parts of one array share one storage.

    `kind` is PyTorch's storage class (bfloat16 comes as uint16 with "BFloat16Storage"); `count` a
    wrong length.
    """

    storage: np.ndarray
    offset: int = 0
    shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    kind: str | None = None
    count: int | None = None

    def __reduce__(self) -> tuple:
        shape = self.storage.shape if self.shape is None else self.shape
        strides = self.strides or tuple(
            int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))
        )
        arguments = (_Storage(self), self.offset, shape, strides, False, OrderedDict())
        return Name("torch._utils", "_rebuild_tensor_v2"), arguments


@dataclass(frozen=True, eq=False)
class _Storage:
    part: Part


class _Pickler(pickle._Pickler):  # the one in Python, whose `save` can be replaced
    def __init__(self, file: io.BytesIO, protocol: int, legacy: bool):
        super().__init__(file, protocol)
        self.legacy = legacy
        self.storages: dict[str, np.ndarray] = {}

    def persistent_id(self, value: object) -> tuple | None:
        if not isinstance(value, _Storage):
            return None
        part = value.part
        keys = [key for key, storage in self.storages.items() if storage is part.storage]
        key = keys[0] if keys else str(len(self.storages))
        self.storages[key] = part.storage
        kind = part.kind or KINDS[part.storage.dtype.str[1:]]
        count = part.storage.size if part.count is None else part.count
        identity = ("storage", Name("torch", kind), key, "cpu", count)
        return (*identity, None) if self.legacy else identity

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if isinstance(value, Name):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        else:
            super().save(value, save_persistent_id)


def pickled(
    value: object, protocol: int = 2, legacy: bool = False
) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a pickle of `value` as torch.save writes it, and the storages that it names."""
    file = io.BytesIO()
    pickler = _Pickler(file, protocol, legacy)
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def state_dict(tensors: Mapping[str, np.ndarray | Part]) -> OrderedDict:
    """Return arrays as parts, in a dict with the attribute that modules give theirs."""
    parts = (
        (name, value if isinstance(value, Part) else Part(value)) for name, value in tensors.items()
    )
    state = OrderedDict(parts)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state


def write_zip(
    path: Path,
    tensors: Mapping[str, np.ndarray | Part],
    checkpoint: Callable[[OrderedDict], object] = lambda state: state,
    *,
    records: Mapping[str, bytes | None] | None = None,
    compression: int = zipfile.ZIP_STORED,
    protocol: int = 2,
) -> Path:
    """Write torch.save's layout since 1.6; `records` replaces or removes entries."""
    content, storages = pickled(checkpoint(state_dict(tensors)), protocol)
    entries: dict[str, bytes | None] = {"data.pkl": content, "byteorder": b"little"}
    entries |= {f"data/{key}": storage.tobytes() for key, storage in storages.items()}
    entries |= {"version": b"3\n"} | dict(records or {})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in entries.items():
            if value is not None:
                info = zipfile.ZipInfo(f"archive/{name}")
                padding = (
                    -(archive.fp.tell() + 30 + len(info.filename) + 4) % 64
                )  # contents begin at multiples of 64
                info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
                info.compress_type = compression
                archive.writestr(info, value)
    return path


def write_legacy(
    path: Path,
    tensors: Mapping[str, np.ndarray | Part],
    checkpoint: Callable[[OrderedDict], object] = lambda state: state,
    *,
    magic: object = MAGIC,
    protocol: object = PROTOCOL,
    little_endian: bool = True,
    keys: list[str] | None = None,
) -> Path:
    """Write the layout of torch.save before 1.6, of `checkpoint(state dict)`."""
    content, storages = pickled(checkpoint(state_dict(tensors)), legacy=True)
    system = {
        "protocol_version": PROTOCOL,
        "little_endian": little_endian,
        "type_sizes": {"short": 2, "int": 4},
    }
    with path.open("wb") as file:
        for header in (magic, protocol, system):
            pickle.dump(header, file, protocol=2)
        file.write(content)
        pickle.dump(list(storages) if keys is None else keys, file, protocol=2)
        for storage in storages.values():
            file.write(struct.pack("<q", storage.size) + storage.tobytes())
    return path

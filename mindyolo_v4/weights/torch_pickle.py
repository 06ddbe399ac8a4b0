"""Read the pickles inside PyTorch files as data: nothing that they name is imported, and nothing is called but ours.

Two guards. `_scan` walks the instructions first, building nothing, and refuses what would exhaust the memory or the C
stack. The unpickler then gives an inert stand-in for every name on its list, and refuses every other name.
"""

import io
import mmap
import pickle
import pickletools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeGuard

from mindyolo_v4.errors import UserError

MAX_PICKLE_BYTES = 64 << 20
MAX_INSTRUCTIONS = 1_000_000  # an empty set is one byte in the file and 216 in memory
MAX_TUPLES = (
    50_000  # hashing tuples nested some 100 000 deep overflows the C stack; a tensor takes four
)
STATE_DICT_ONLY = "a file that holds a state dict only, from torch.save(model.state_dict(), ...)"

BFLOAT16 = "bfloat16"  # NumPy has no such type
STORAGE_TYPES = {  # PyTorch's class name -> NumPy's type, little-endian
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_ITEM_BYTES = {
    name: 2 if kind == BFLOAT16 else int(kind[-1]) for name, kind in STORAGE_TYPES.items()
}

# What checkpoints hold beside tensors (best fitness, arguments, random states): a placeholder takes each one's place.
_NUMPY = ("_reconstruct", "scalar")
_PLAIN = ("bytearray", "dict", "float", "frozenset", "int", "list", "set")
_TORCH_TYPES = (
    "bfloat16",
    "bool",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
)
_INERT = {
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace", "torch.device"),
    *(
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
    ),
    *(
        f"{module}.{name}"
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in _NUMPY
    ),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _PLAIN),
    *(f"torch.{name}" for name in _TORCH_TYPES),
}
_REACHES_OUTSIDE = {
    "EXT1",
    "EXT2",
    "EXT4",
    "NEXT_BUFFER",
    "READONLY_BUFFER",
}  # objects from outside the file
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, ValueError),
    *(AttributeError, MemoryError, OverflowError, RecursionError),
)


class _Sealed:
    """Takes no attributes, whatever the pickle tries: BUILD finds this __setstate__ before any __dict__."""

    __slots__ = ()

    def __setstate__(self, state: object = None) -> None:
        raise pickle.UnpicklingError("gives a state to something that has none")


class Inert(_Sealed):
    """Stands for any value of no use to us; made with any arguments, keeps none."""

    __slots__ = ()

    def __new__(cls, *args: object, **kwargs: object) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object = None) -> None:
        """Forget the state."""


class Mapping(dict, _Sealed):
    """Stands for an OrderedDict; its attributes (PyTorch's `_metadata`) are forgotten."""

    __slots__ = ()

    def __setstate__(self, state: object = None) -> None:
        """Forget the state."""


class Storage(_Sealed):
    """A run of `count` numbers of one type, named by `key`."""

    __slots__ = ("count", "key", "kind")

    def __init__(self, key: str, kind: str, count: int):
        self.key, self.kind, self.count = key, kind, count

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES[self.kind]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.item_bytes


class Tensor(_Sealed):
    """Where a tensor lies in its storage: offset and strides in elements, not yet checked against its length."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(
        self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class _Name(_Sealed):
    """One of our functions under the name that the file knows; its class is out of the pickle's reach."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)


class _StorageType(_Sealed):
    __slots__ = ("kind",)

    def __init__(self, kind: str):
        self.kind = kind


def read_pickle(
    path: Path, data: mmap.mmap, start: int, end: int
) -> tuple[object, dict[str, Storage], int]:
    """Return what the pickle at data[start:] holds, the storages that it names, and the place behind it.

    Dicts are dicts (or Mapping), tensors are Tensor. Raises UserError where the pickle is damaged, names anything that
    is not on our list, or would not leave `end`.
    """
    try:
        stop, whole_model = _scan(data, start)
        if stop > end:
            raise EOFError(f"it ends {stop - end} bytes behind its place")
        unpickler = _Unpickler(path, data[start:stop], whole_model)
        return unpickler.load(), unpickler.storages, stop
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {printable(str(error))}"
        raise UserError(
            path, f"is damaged or cut short: its pickle at byte {start} cannot be read", reason
        ) from error


def printable(text: str, length: int = 120) -> str:
    """Return text of a foreign file as it may be shown in a terminal."""
    return ascii(text[:length])[1:-1]


def _scan(data: mmap.mmap, start: int) -> tuple[int, bool]:
    """Return where the pickle at `start` ends, and whether it holds modules of PyTorch, without building anything."""
    data.seek(start)
    tuples, whole_model = 0, False
    for count, (instruction, argument, place) in enumerate(pickletools.genops(data)):  # type: ignore[arg-type]
        name = instruction.name
        tuples += name.startswith("TUPLE")
        if (place or 0) - start > MAX_PICKLE_BYTES:
            raise ValueError(f"longer than {MAX_PICKLE_BYTES} bytes")
        if count > MAX_INSTRUCTIONS or tuples > MAX_TUPLES:
            raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions or {MAX_TUPLES} tuples")
        if name in _REACHES_OUTSIDE:
            raise ValueError(f"instruction {name}, which PyTorch does not write")
        if (
            name.endswith("PUT") and int(argument or 0) > count
        ):  # the unpickler's memo grows to the largest number
            raise ValueError(f"memo entry {argument} after {count} instructions")
        whole_model = whole_model or (
            isinstance(argument, str) and argument.startswith("torch.nn.modules.")
        )
    return data.tell(), whole_model


class _Unpickler(pickle.Unpickler):
    def __init__(self, path: Path, content: bytes, whole_model: bool):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._path = path
        self._whole_model = whole_model
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        full = f"{module}.{name}"
        if full in _INERT:
            return Inert
        if full in _FUNCTIONS:
            return _Name(_FUNCTIONS[full])
        if module in ("torch", "torch.cuda") and name in STORAGE_TYPES:
            return _StorageType(name)
        if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
            supported = ", ".join(kind.removesuffix("Storage") for kind in STORAGE_TYPES)
            raise UserError(
                self._path, "holds numbers of a type that is not read", printable(full), supported
            )
        if module == "torch._utils" and name.startswith("_rebuild_"):
            raise UserError(
                self._path,
                "holds a tensor of a kind that is not read",
                printable(full),
                "dense tensors",
            )
        problem = (
            "holds a whole model, which would run code" if self._whole_model else "would run code"
        )
        raise UserError(self._path, f"{problem} when loaded", printable(full), STATE_DICT_ONLY)

    def persistent_load(self, identity: object) -> Storage:
        if isinstance(identity, tuple) and identity[:1] == ("module",):
            raise UserError(
                self._path,
                "holds a whole model, which would run code when loaded",
                None,
                STATE_DICT_ONLY,
            )
        if (
            not isinstance(identity, tuple)
            or len(identity) not in (5, 6)
            or identity[0] != "storage"
        ):
            raise pickle.UnpicklingError("a reference to something that is no storage")
        _, storage_type, key, _, count, *view = identity
        if (
            not isinstance(storage_type, _StorageType)
            or not isinstance(key, str)
            or not _is_size(count)
        ):
            raise pickle.UnpicklingError("a storage without type, key or length")
        if any(part is not None for part in view):
            raise pickle.UnpicklingError("a view of a storage, as PyTorch wrote before 0.4")
        storage = Storage(key, storage_type.kind, count)
        if (
            key not in self.storages or storage.size > self.storages[key].size
        ):  # one storage may be seen as two types
            self.storages[key] = storage
        return storage


def _rebuild_tensor(
    storage: object, offset: object, shape: Sequence[int], strides: Sequence[int], *rest: object
) -> Tensor:
    """Stand for `_rebuild_tensor` and `_rebuild_tensor_v2`; the rest is gradients, hooks and flags."""
    if not isinstance(storage, Storage) or not _is_size(offset) or len(rest) > 3:
        raise pickle.UnpicklingError("a tensor without storage or offset")
    if len(rest) == 3 and rest[2]:
        raise pickle.UnpicklingError("a tensor that is to be negated or conjugated")
    shape, strides = _sizes(shape), _sizes(strides)
    if len(shape) != len(strides):
        raise pickle.UnpicklingError(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: object, *rest: object) -> object:
    return tensor


def _sizes(values: Sequence[int] = ()) -> tuple[int, ...]:
    """Stand for torch.Size: plain sizes, so that a tuple of ours never nests."""
    if not isinstance(values, tuple | list) or len(values) > 32 or not all(map(_is_size, values)):
        raise pickle.UnpicklingError("a size that is no tuple of at most 32 numbers")
    return tuple(values)


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 62


def _new_mapping(*args: object) -> Mapping:
    """Stand for OrderedDict(), defaultdict(factory) and Counter({}), and take over a list of pairs or a dict."""
    return Mapping(*args) if args and isinstance(args[0], dict | list) else Mapping()


_FUNCTIONS: dict[str, Callable] = {
    "collections.OrderedDict": _new_mapping,
    "collections.defaultdict": _new_mapping,
    "collections.Counter": _new_mapping,
    "torch.Size": _sizes,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
}

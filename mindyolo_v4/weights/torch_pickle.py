"""Read the pickles inside PyTorch files as data: nothing that they name is imported or called.

Two guards. `_scan` walks the instructions without building anything, and refuses what would exhaust
the memory or the C stack. Then Python's own unpickler gets a harmless stand-in for each name on our
list; any other name is refused.
"""

import io
import mmap
import pickle
import pickletools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

from mindyolo_v4.errors import UserError

MAX_PICKLE_BYTES = 64 << 20
MAX_INSTRUCTIONS = 1_000_000  # an empty set is one byte in the file and 216 in memory
MAX_TUPLES = 50_000  # hashing 100 000 nested ones overflows the C stack; a tensor takes four
STATE_DICT_ONLY = "a file that holds a state dict only, from torch.save(model.state_dict(), ...)"

BFLOAT16 = "bfloat16"  # NumPy has no such type
STORAGE_TYPES = {  # PyTorch's class name -> NumPy's type, little-endian
    **{"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1"},
    **{"ByteStorage": "|u1", "BoolStorage": "|b1", "BFloat16Storage": BFLOAT16},
}

# What checkpoints hold beside tensors (best fitness, arguments, random states).
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_PLAIN = ("bytearray", "dict", "float", "frozenset", "int", "list", "set")
_TORCH = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
_INERT = {
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace"),
    *("torch.device", "torch.bfloat16", *(f"torch.{name}" for name in _TORCH)),
    *(f"pathlib.{name}" for name in _PATHS),
    *(f"{module}.{name}" for module in _NUMPY for name in ("_reconstruct", "scalar")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _PLAIN),
}
# Instructions that take objects from outside of the file.
_REACHES_OUTSIDE = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, ValueError),
    *(AttributeError, MemoryError, OverflowError, RecursionError),
)


class Inert:
    """Stands for a value of no use to us: takes any arguments and any state, and keeps none.

    BUILD finds `__setstate__` before any `__dict__`, so a pickle changes neither it nor its class.
    """

    __slots__ = ()

    def __new__(cls, *args: object, **kwargs: object) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object = None) -> None:
        """Forget the state."""


class Mapping(dict):
    """Stands for OrderedDict, defaultdict and Counter; forgets their attributes.

    A list of pairs, as Python 2 wrote an OrderedDict, is emptied: else a pickle could copy it
    without end.
    """

    __slots__ = ()

    def __init__(self, *args: object):
        super().__init__()
        if args and isinstance(args[0], list):
            self.update(args[0])
            args[0].clear()

    def __setstate__(self, state: object = None) -> None:
        """Forget the state."""


class Storage(NamedTuple):
    """A run of `length` numbers of one type, named by `key`."""

    key: str
    kind: str
    length: int

    @property
    def size(self) -> int:
        """Bytes."""
        numpy_type = STORAGE_TYPES[self.kind]
        return self.length * (2 if numpy_type == BFLOAT16 else int(numpy_type[-1]))


class Tensor(NamedTuple):
    """A tensor in its storage: offset and strides in elements, not yet compared with its length."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StorageType(NamedTuple):
    kind: str


class _Function:
    """One of our functions, which a pickle can call and not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object = None) -> None:
        raise pickle.UnpicklingError("gives a state to a function")


def read_pickle(
    path: Path, data: mmap.mmap, start: int, end: int
) -> tuple[object, dict[str, Storage], int]:
    """Return what the pickle at data[start:] holds, the storages that it names, and where it ends.

    Dicts are dicts (or Mapping), tensors are Tensor.

    Raises:
        UserError: it is damaged, holds a name that is not on our list, or ends behind `end`.
    """
    try:
        stop, whole_model = _scan(data, start)
        if stop > end:
            raise EOFError(f"it ends {stop - end} bytes behind its place")
        unpickler = _Unpickler(path, data[start:stop], whole_model)
        return unpickler.load(), unpickler.storages, stop
    except _DAMAGE as error:
        problem = f"is damaged or cut short: its pickle at byte {start} cannot be read"
        reason = f"{type(error).__name__}: {printable(str(error))}"
        raise UserError(path, problem, reason) from error


def printable(text: str, length: int = 120) -> str:
    """Return text of a foreign file that is safe to show in a terminal."""
    return ascii(text[:length])[1:-1]


def _scan(data: mmap.mmap, start: int) -> tuple[int, bool]:
    """Return where the pickle at `start` ends, and whether it holds modules of PyTorch."""
    data.seek(start)
    tuples = 0
    whole_model = False
    instructions = pickletools.genops(data)  # type: ignore[arg-type]
    for count, (instruction, argument, position) in enumerate(instructions):
        name = instruction.name
        tuples += name.startswith("TUPLE")
        if (position or 0) - start > MAX_PICKLE_BYTES:
            raise ValueError(f"longer than {MAX_PICKLE_BYTES} bytes")
        if count > MAX_INSTRUCTIONS or tuples > MAX_TUPLES:
            raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions or {MAX_TUPLES} tuples")
        if name in _REACHES_OUTSIDE:
            raise ValueError(f"instruction {name}, which PyTorch does not write")
        # The unpickler's memo grows to the largest number.
        if name.endswith("PUT") and int(argument or 0) > count:
            raise ValueError(f"memo entry {argument} after {count} instructions")
        if isinstance(argument, str) and argument.startswith("torch.nn.modules."):
            whole_model = True
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
        if module == "collections" and name in ("OrderedDict", "defaultdict", "Counter"):
            return Mapping
        if full in _FUNCTIONS:
            return _Function(_FUNCTIONS[full])
        if module in ("torch", "torch.cuda") and name in STORAGE_TYPES:
            return _StorageType(name)
        shown = printable(full)
        if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
            problem = "holds numbers of a type that is not read"
            supported = ", ".join(kind.removesuffix("Storage") for kind in STORAGE_TYPES)
            raise UserError(self._path, problem, shown, supported)
        if module == "torch._utils" and name.startswith("_rebuild_"):
            problem = "holds a tensor of a kind that is not read"
            raise UserError(self._path, problem, shown, "dense tensors")
        raise self._runs_code(shown, self._whole_model)

    def persistent_load(self, identity: object) -> Storage:
        if not isinstance(identity, tuple):
            raise pickle.UnpicklingError("a reference to something that is no storage")
        if identity[:1] == ("module",):
            raise self._runs_code(None, True)
        if len(identity) not in (5, 6) or identity[0] != "storage":
            raise pickle.UnpicklingError("a reference to something that is no storage")
        _, kind, key, _, length, *view = identity
        is_whole = isinstance(kind, _StorageType) and isinstance(key, str)
        if not is_whole or not _is_size(length):
            raise pickle.UnpicklingError("a storage without type, key or length")
        if any(part is not None for part in view):
            raise pickle.UnpicklingError("a view of a storage, as PyTorch wrote before 0.4")
        storage = Storage(key, kind.kind, length)
        # One storage may be used as two types: the larger one counts.
        known = self.storages.get(key)
        if known is None or storage.size > known.size:
            self.storages[key] = storage
        return storage

    def _runs_code(self, name: str | None, whole_model: bool) -> UserError:
        problem = "would run code when loaded"
        if whole_model:
            problem = f"holds a whole model, which {problem}"
        return UserError(self._path, problem, name, STATE_DICT_ONLY)


def _rebuild_tensor(
    storage: object, offset: object, shape: Sequence[int], strides: Sequence[int], *rest: object
) -> Tensor:
    """Stand for `_rebuild_tensor` and `_rebuild_tensor_v2`; `rest`: gradients, hooks, flags."""
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


_FUNCTIONS: dict[str, Callable] = {
    "torch.Size": _sizes,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
}

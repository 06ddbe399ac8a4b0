"""Read the pickles inside PyTorch files as data: nothing that they name is imported or called.

The instructions are carried out here, on texts, numbers, lists, tuples and dicts. Tensors and
storages become descriptions, other objects of checkpoints one stand-in; any further name is
refused. Each instruction costs what it takes from the stack, and dicts keep keys that are texts
only, so that memory and time grow with the length of the pickle.
"""

import mmap
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from mindyolo_v4.errors import UserError

MAX_PICKLE_BYTES = 64 << 20
MAX_INSTRUCTIONS = 1_000_000
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
_INERT_NAMES = {
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace"),
    *("torch.device", "torch.bfloat16", *(f"torch.{name}" for name in _TORCH)),
    *(f"pathlib.{name}" for name in _PATHS),
    *(f"{module}.{name}" for module in _NUMPY for name in ("_reconstruct", "scalar")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _PLAIN),
}
_INERT = object()  # stands for every value of no use to us
_DICTS = {f"collections.{name}" for name in ("OrderedDict", "defaultdict", "Counter")}
_STORAGES = {f"{module}.{name}" for module in ("torch", "torch.cuda") for name in STORAGE_TYPES}
_WHOLE_MODEL = b"torch.nn.modules."  # in the pickle of a model, not of a state dict

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_SET": _INERT}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


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


@dataclass(frozen=True)
class _Name:
    """A class or function of our list."""

    full: str


def read_pickle(
    path: Path, data: mmap.mmap, start: int, end: int
) -> tuple[Any, dict[str, Storage], int]:
    """Return what the pickle at data[start:] holds, the storages that it names, and where it ends.

    Tensors are Tensor.

    Raises:
        UserError: it is damaged, holds a name that is not on our list, or ends behind `end`.
    """
    machine = _Machine(path, is_model=data.find(_WHOLE_MODEL, start, end) >= 0)
    data.seek(start)
    try:
        instructions = pickletools.genops(data)  # type: ignore[arg-type]
        for count, (instruction, argument, position) in enumerate(instructions):
            if (position or 0) - start > MAX_PICKLE_BYTES or count > MAX_INSTRUCTIONS:
                limit = f"{MAX_PICKLE_BYTES} bytes or {MAX_INSTRUCTIONS} instructions"
                raise ValueError(f"longer than {limit}")
            if instruction.name.endswith("PUT") and int(argument) > count:
                raise ValueError(f"memo entry {argument} after {count} instructions")
            machine.step(instruction, argument)
        if data.tell() > end:
            raise ValueError(f"it ends {data.tell() - end} bytes behind its place")
        return machine.stack.pop(), machine.storages, data.tell()
    except (ValueError, LookupError, TypeError) as error:
        problem = f"is damaged or cut short: its pickle at byte {start} cannot be read"
        raise UserError(path, problem, f"{type(error).__name__}: {error}") from error


class _Machine:
    """Carries out the instructions of one pickle; any error but UserError says that it is damaged.

    Args:
        is_model: the pickle holds a whole model, which the refusal of its first class then says.
    """

    def __init__(self, path: Path, is_model: bool):
        self.stack: list[Any] = []
        self.storages: dict[str, Storage] = {}
        self._path = path
        self._is_model = is_model
        self._marks: list[int] = []  # lengths of the stack
        self._memo: dict[int, Any] = {}

    def step(self, instruction: pickletools.OpcodeInfo, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        name = instruction.name
        after = instruction.stack_after
        is_literal = instruction.arg and after and after[0] is not pickletools.anyobject
        if is_literal and not instruction.stack_before:
            stack.append(argument)
            return
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_SET":
                stack.append(_CONSTANTS[name])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(_TUPLES[name])))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
                if stack[-1] is not _INERT:
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
                _update(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._memo[len(self._memo) if argument is None else int(argument)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[int(argument)])
            case "GLOBAL":
                stack.append(self._name(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, attribute = self._pop(2)
                stack.append(self._name(f"{module}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                stack.append(_call(*self._pop(2)))
            case "BUILD":  # gives an object its state; none of ours has any
                self._pop(1)
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case _:
                raise ValueError(f"instruction {name}, which PyTorch does not write")

    def _pop(self, count: int) -> list[Any]:
        first = len(self.stack) - count
        if first < 0:
            raise IndexError("too few values on the stack")
        items = self.stack[first:]
        del self.stack[first:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        return self._pop(len(self.stack) - self._marks.pop())

    def _name(self, full: str) -> _Name:
        module, _, name = full.rpartition(".")
        if full in _KNOWN_NAMES:
            return _Name(full)
        if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
            problem = "holds numbers of a type that is not read"
            supported = ", ".join(kind.removesuffix("Storage") for kind in STORAGE_TYPES)
            raise UserError(self._path, problem, full, supported)
        if module == "torch._utils" and name.startswith("_rebuild_"):
            problem = "holds a tensor of a kind that is not read"
            raise UserError(self._path, problem, full, "dense tensors")
        raise self._runs_code(full, self._is_model)

    def _runs_code(self, name: str | None, is_model: bool) -> UserError:
        problem = "would run code when loaded"
        if is_model:
            problem = f"holds a whole model, which {problem}"
        return UserError(self._path, problem, name, STATE_DICT_ONLY)

    def _storage(self, identity: object) -> Storage:
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            if isinstance(identity, tuple) and identity[:1] == ("module",):
                raise self._runs_code(None, True)
            raise ValueError("a reference to something that is not a storage")
        _, kind, key, _, length, *view = identity
        is_typed = isinstance(kind, _Name) and kind.full in _STORAGES
        if not is_typed or not isinstance(key, str) or not _is_size(length):
            raise ValueError("a storage without type, key or length")
        if any(part is not None for part in view):
            raise ValueError("a view of a storage, as PyTorch wrote before 0.4")
        storage = Storage(key, kind.full.rpartition(".")[2], length)
        # One storage may be used as two types: the larger one counts.
        known = self.storages.get(key)
        if known is None or storage.size > known.size:
            self.storages[key] = storage
        return storage


def _call(kind: object, arguments: object) -> Any:
    """Return what a call of a name on our list makes."""
    if not isinstance(kind, _Name) or not isinstance(arguments, tuple):
        raise TypeError("a call of what cannot be called")
    if kind.full in _INERT_NAMES:
        return _INERT
    if kind.full in _FUNCTIONS:
        return _FUNCTIONS[kind.full](*arguments)
    if kind.full not in _DICTS:
        raise TypeError("a call of a storage type")
    made: dict[str, Any] = {}
    if arguments and isinstance(arguments[0], list):  # of pairs, as Python 2 wrote an OrderedDict
        _update(made, arguments[0])
        arguments[0].clear()  # else a pickle could copy it again and again
    return made


def _update(target: object, items: Any) -> None:
    """Set items of a dict. Keys that are not texts are left out: to hash them may take forever."""
    if target is not _INERT and not isinstance(target, dict):
        raise TypeError("items of what is not a dict")
    for key, value in items:
        if isinstance(target, dict) and isinstance(key, str):
            if key in target:
                raise ValueError(f"a dict that holds {key!r} twice")
            target[key] = value


def _rebuild_tensor(
    storage: object, offset: object, shape: Sequence[int], strides: Sequence[int], *rest: object
) -> Tensor:
    """Stand for `_rebuild_tensor` and `_rebuild_tensor_v2`; `rest`: gradients, hooks, flags."""
    if not isinstance(storage, Storage) or not _is_size(offset) or len(rest) > 3:
        raise ValueError("a tensor without storage or offset")
    if len(rest) == 3 and rest[2]:
        raise ValueError("a tensor that is to be negated or conjugated")
    shape, strides = _sizes(shape), _sizes(strides)
    if len(shape) != len(strides):
        raise ValueError(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: object, *rest: object) -> object:
    return tensor


def _sizes(values: Sequence[int] = ()) -> tuple[int, ...]:
    """Stand for torch.Size."""
    if not isinstance(values, tuple | list) or len(values) > 32 or not all(map(_is_size, values)):
        raise ValueError("a size that is not a tuple of at most 32 numbers")
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
_KNOWN_NAMES = _INERT_NAMES | _DICTS | _STORAGES | _FUNCTIONS.keys()

"""Reading and writing the files on both sides of a conversion."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.checkpoint.file import BESIDE_THE_MODEL, EMA, Checkpoint, save
from mindyolo_v4.checkpoint.formats import Identity, identify, safetensors_header
from mindyolo_v4.checkpoint.index import FormatError
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.errors import UserError, printable
from mindyolo_v4.runtime.files import sha256_of, whole_file
from mindyolo_v4.weights.coco_names import COCO_NAMES

_SAFETENSORS_TYPES = {
    *("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"),
    *("F16", "BF16", "F32", "F64"),
}


@dataclass(frozen=True)
class Own:
    """A checkpoint of ours: the weights to use (averaged where it has them), and its card."""

    path: Path
    card: Card
    tensors: dict[str, NDArray]  # float32, by the network's names


@dataclass(frozen=True)
class Converted:
    """A foreign file in our terms."""

    tensors: dict[str, NDArray]
    model: ModelConfig
    classes: int  # 0: a backbone alone
    preprocessing: Preprocessing
    img_size: int  # pixels
    format: str
    description: str  # of the format
    origin: dict[str, Any] = field(default_factory=dict)  # needed to convert back only
    notes: tuple[str, ...] = ()  # what the user should know, one sentence each
    img_height: int | None = None  # of an input that is not a square; img_size is its width


def recognise(path: Path) -> Identity:
    """Return what a file of weights is. Raises UserError for any other file."""
    what = identify(path)
    if what.kind in ("empty", "html", "text", "unknown"):
        got = f"{what.description}, {path.stat().st_size} bytes"
        raise UserError(path, what.damage or "holds no weights", got)
    return what


def read_mindspore(what: Identity) -> dict[str, NDArray]:
    """Return a MindSpore checkpoint's tensors as views of the file. Raises UserError."""
    if what.file is None:
        got = f"{what.path.stat().st_size} bytes, {what.description}"
        raise UserError(what.path, "no MindSpore checkpoint", got)
    return what.file.tensors()


def read_safetensors(path: Path) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Return tensors and metadata of a safetensors file. Raises UserError where it is damaged."""
    try:
        _check_safetensors(path)
        with safe_open(path, "np") as content:
            names = list(content.keys())
            tensors = {name: content.get_tensor(name) for name in names}
            metadata = content.metadata() or {}
    except (SafetensorError, FormatError, TypeError) as error:
        problem = f"cannot be read as a safetensors file: {error}"
        raise UserError(path, problem, f"{path.stat().st_size} bytes") from error
    for name, value in tensors.items():
        if value.dtype.kind not in "fiub":  # bfloat16, which NumPy has not of its own
            tensors[name] = value.astype(np.float32)
    return tensors, metadata


def _check_safetensors(path: Path) -> None:
    """Raise FormatError where a file is cut short, or holds types that are not read."""
    header = safetensors_header(path)
    header.pop("__metadata__", None)
    try:
        types = {entry["dtype"] for entry in header.values()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (LookupError, TypeError, ValueError) as error:
        raise FormatError("its header is damaged") from error
    for unread in types - _SAFETENSORS_TYPES:
        raise FormatError(f"holds numbers of type {unread}, which are not read")
    size = path.stat().st_size
    with path.open("rb") as file:
        expected = 8 + int.from_bytes(file.read(8), "little") + end
    if size < expected:
        raise FormatError(f"is cut short: {size} bytes, expected {expected}")


def read_own(checkpoint: Checkpoint) -> Own:
    """Return the weights of a checkpoint of ours. Raises UserError where they are damaged."""
    model = model_tensors(checkpoint.file.tensors())
    check_finite(checkpoint.path, model)
    tensors = {name: np.asarray(value, np.float32) for name, value in model.items()}
    return Own(checkpoint.path, checkpoint.card, tensors)


def model_tensors(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the model of a checkpoint of ours, the averaged weights where it has them."""
    return {
        name: tensors.get(EMA + name, value)
        for name, value in tensors.items()
        if not name.startswith(BESIDE_THE_MODEL)
    }


def check_finite(path: Path, tensors: Mapping[str, NDArray]) -> None:
    """Raise UserError where a tensor holds NaN or infinity, or is not of floating point."""
    for name, value in tensors.items():
        if value.dtype.kind != "f":
            raise UserError(path, f"{name} is not of floating point", str(value.dtype))
        if not np.isfinite(value).all():
            count = int(value.size - np.isfinite(value).sum())
            problem = f"{name} holds values that are not finite"
            raise UserError(path, problem, f"{count} of {value.size}")


def write_own(
    target: Path, source: Path, converted: Converted, names: tuple[str, ...] | None
) -> Card:
    """Write a converted network as a checkpoint of ours; return its card."""
    model = converted.model
    card = Card(
        task=model.task,
        model=model,
        class_names=_class_names(source, converted, names),
        img_size=converted.img_size,
        img_height=converted.img_height,
        preprocessing=converted.preprocessing,
        source=f"{converted.description}: {source.name}",
        source_format=converted.format,
        source_sha256=sha256_of(source),
        origin=converted.origin,
    )
    write_checkpoint(target, converted.tensors, record_to_tree(card))
    return card


def as_tensor(values: NDArray) -> Tensor:
    """Return an array as a tensor, which shares its memory where MindSpore allows that."""
    # MindSpore 2.7 takes no array that cannot be written to, such as a view of a file.
    return Tensor.from_numpy(np.require(values, requirements="W"))


def write_checkpoint(target: Path, tensors: Mapping[str, NDArray], card: Mapping[str, Any]) -> None:
    """Write a checkpoint of ours. Raises UserError where the system refuses."""
    values = {name: as_tensor(value) for name, value in tensors.items()}
    with _refused_as_user_error(target):
        save(target, values, card)


@contextmanager
def output_file(target: Path) -> Iterator[Path]:
    """Do what `whole_file` does. Raises UserError where the system refuses."""
    with _refused_as_user_error(target), whole_file(target) as unfinished:
        yield unfinished


@contextmanager
def _refused_as_user_error(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(target, f"cannot be written: {reason}") from error


def _class_names(
    path: Path, converted: Converted, names: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the names given, COCO's for a detector of 80 classes, or numbers. Raises UserError."""
    classes = converted.classes
    if names is None:
        is_coco = classes == len(COCO_NAMES) and converted.model.task == "detect"
        return COCO_NAMES if is_coco else tuple(str(number) for number in range(classes))
    if len(names) != classes:
        raise UserError("--names", f"wrong count for {path}", len(names), f"{classes} classes")
    return names


def note(text: str) -> None:
    """Tell the user something beside the result."""
    print(f"note: {printable(text, 900)}", file=sys.stderr)

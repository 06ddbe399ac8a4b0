"""Files on both sides of a conversion: MindSpore checkpoints in, checkpoints of ours in and out, others out."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from convert.coco_names import COCO_NAMES
from mindyolo_v4.cards import build_card
from mindyolo_v4.config import record_to_tree
from mindyolo_v4.engine import checkpoint
from mindyolo_v4.formats import Entry, FormatError, check_sum, describe, read_index
from mindyolo_v4.schema.card import Card, Preprocessing
from mindyolo_v4.schema.errors import UserError
from mindyolo_v4.schema.model import ModelConfig

_DTYPES = {"Float32": "<f4", "Float16": "<f2", "Float64": "<f8", "Int32": "<i4", "Int64": "<i8", "BFloat16": "<u2"}
_CHUNK = 1 << 22


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
    origin: dict[str, Any] = field(default_factory=dict)  # what an export back to it needs
    notes: tuple[str, ...] = ()  # what the user should know, a sentence each


def read_mindspore(path: str | Path) -> dict[str, NDArray]:
    """Return the tensors of a MindSpore checkpoint as views of the file. Raises UserError for any other file."""
    try:
        index = read_index(path)
        check_sum(path)
    except FormatError as error:
        raise UserError(path, f"cannot be read as a MindSpore checkpoint: {error}", describe(path)) from error
    content = np.memmap(path, np.uint8, "r")
    return {name: _view(path, name, entry, content) for name, entry in index.items() if entry.dtype in _DTYPES}


def _view(path: str | Path, name: str, entry: Entry, content: NDArray[np.uint8]) -> NDArray:
    dtype = np.dtype(_DTYPES[entry.dtype])
    expected = int(np.prod(entry.shape)) * dtype.itemsize
    if entry.size != expected:
        raise UserError(path, f"{name} {entry.shape} is not whole", f"{entry.size} bytes", f"{expected} bytes")
    value = content[entry.start : entry.start + entry.size].view(dtype).reshape(entry.shape)
    if entry.dtype == "BFloat16":
        return (value.astype(np.uint32) << 16).view(np.float32)
    return value


def read_own(path: str | Path) -> Own:
    """Return a checkpoint of ours. Raises UserError for any other file."""
    card = build_card(path, checkpoint.load_card(path))
    tensors = read_mindspore(path)
    aside = (checkpoint.EMA, checkpoint.OPTIMIZER, checkpoint.SCALER)
    model = {name: tensors.get(checkpoint.EMA + name, value) for name, value in tensors.items() if _not(name, aside)}
    return Own(Path(path), card, {name: np.asarray(value, np.float32) for name, value in model.items()})


def _not(name: str, prefixes: tuple[str, ...]) -> bool:
    return not name.startswith(prefixes)


def write_own(target: Path, source: Path, converted: Converted, names: tuple[str, ...] | None) -> Card:
    """Write a converted network as a checkpoint of ours, which appears whole or not at all; return its card."""
    model = converted.model
    card = Card(
        task="classify" if model.architecture == "cspdarknet53" else "detect",
        model=model,
        class_names=class_names(source, converted.classes, names, model.architecture),
        img_size=converted.img_size,
        preprocessing=converted.preprocessing,
        source=f"{converted.description}: {source.name}",
        source_format=converted.format,
        source_sha256=sha256_of(source),
        origin=converted.origin,
    )
    tensors = {name: Tensor.from_numpy(value) for name, value in converted.tensors.items()}
    checkpoint.save(target, tensors, record_to_tree(card))
    return card


def class_names(path: Path, classes: int, names: tuple[str, ...] | None, architecture: str) -> tuple[str, ...]:
    """Return the names given, or COCO's for a detector of 80 classes, or numbers. Raises UserError on another count."""
    if names is None:
        is_coco = classes == len(COCO_NAMES) and architecture != "cspdarknet53"
        return COCO_NAMES if is_coco else tuple(str(number) for number in range(classes))
    if classes and len(names) != classes:
        raise UserError("--names", f"wrong count for {path}", len(names), f"{classes} classes")
    return names


def sha256_of(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(targets: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write files so that each appears whole or not at all, the last one last: name -> function that writes a path."""
    unfinished = {target: target.with_name(f".{target.stem}.unfinished{target.suffix}") for target in targets}
    try:
        for target, write in targets.items():
            write(unfinished[target])
            with unfinished[target].open("rb") as file:
                os.fsync(file.fileno())
        for target, path in unfinished.items():
            path.replace(target)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def card_text(card: Card) -> str:
    """Return a card as the text that a checkpoint holds."""
    return json.dumps(record_to_tree(card))


def note(text: str) -> None:
    """Tell the user something beside the result."""
    print(f"note: {text}", file=sys.stderr)

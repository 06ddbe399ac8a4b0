"""Files on both sides of a conversion: MindSpore checkpoints in, checkpoints of ours in and out, others out."""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.checkpoint.file import EMA, OPTIMIZER, SCALER, Checkpoint, save
from mindyolo_v4.checkpoint.formats import describe, identify, safetensors_header
from mindyolo_v4.checkpoint.index import FormatError, MindSporeFile
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.coco_names import COCO_NAMES


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


def recognise(path: str | Path) -> str:
    """Return what kind of weights a file holds, as `formats.identify`. Raises UserError where it holds none."""
    kind = identify(path)
    if kind in ("empty", "html", "text", "unknown"):
        size = f"{Path(path).stat().st_size} bytes"
        raise UserError(
            path, cut_checkpoint(path) or "holds no weights", f"{describe(path)}, {size}"
        )
    return kind


def cut_checkpoint(path: str | Path) -> str | None:
    """Return how a MindSpore checkpoint ends that is cut short inside a tensor; None for any other file."""
    with Path(path).open("rb") as file:
        is_marked = file.read(1) == b"\n"  # the mark of a protobuf's first field
    try:
        MindSporeFile.open(path)
    except FormatError as error:
        return str(error) if is_marked and "cut short" in str(error) else None
    return None


def read_mindspore(path: str | Path) -> dict[str, NDArray]:
    """Return the tensors of a MindSpore checkpoint as views of the file. Raises UserError for any other file."""
    try:
        file = MindSporeFile.open(path)
        file.verify()
        return file.tensors()
    except FormatError as error:
        what = f"{Path(path).stat().st_size} bytes, {describe(path)}"
        raise UserError(path, f"cannot be read as a MindSpore checkpoint: {error}", what) from error


def read_safetensors(path: str | Path) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Return tensors and metadata of a safetensors file. Raises UserError where it is damaged."""
    size = Path(path).stat().st_size
    try:
        ends = [
            entry["data_offsets"][1]
            for name, entry in safetensors_header(path).items()
            if name != "__metadata__"
        ]
        with Path(path).open("rb") as file:
            expected = 8 + int.from_bytes(file.read(8), "little") + max(ends, default=0)
        if size < expected:
            raise FormatError(f"is cut short: {size} bytes, expected {expected}")
        with safe_open(path, "np") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
            metadata = content.metadata() or {}
    except (FormatError, SafetensorError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            path, f"cannot be read as a safetensors file: {error}", f"{size} bytes"
        ) from error
    # NumPy has no bfloat16 of its own: where another package brings it, it is turned into what we use.
    return {
        name: value if value.dtype.kind in "fiub" else value.astype(np.float32)
        for name, value in tensors.items()
    }, metadata


def read_own(path: str | Path) -> Own:
    """Return a checkpoint of ours. Raises UserError for any other file."""
    checkpoint = Checkpoint.open(path)
    model = model_tensors(checkpoint.tensors())
    check_finite(path, model)
    tensors = {name: np.asarray(value, np.float32) for name, value in model.items()}
    return Own(Path(path), checkpoint.card, tensors)


def model_tensors(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the model of a checkpoint of ours, the averaged weights where it has them."""
    aside = (EMA, OPTIMIZER, SCALER)
    model = {name: value for name, value in tensors.items() if not name.startswith(aside)}
    return {name: tensors.get(EMA + name, value) for name, value in model.items()}


def check_finite(path: str | Path, tensors: Mapping[str, NDArray]) -> None:
    """Raise UserError where a tensor holds NaN or infinity, or is not of floating point."""
    for name, value in tensors.items():
        if value.dtype.kind != "f":
            raise UserError(path, f"{name} is not of floating point", str(value.dtype))
        if not np.isfinite(value).all():
            count = int(value.size - np.isfinite(value).sum())
            raise UserError(
                path, f"{name} holds values that are not finite", f"{count} of {value.size}"
            )


def write_own(
    target: Path, source: Path, converted: Converted, names: tuple[str, ...] | None
) -> Card:
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
    write_checkpoint(target, converted.tensors, record_to_tree(card))
    return card


def write_checkpoint(target: Path, tensors: Mapping[str, NDArray], card: Mapping[str, Any]) -> None:
    """Write a checkpoint of ours. Raises UserError where the system refuses."""
    try:
        save(target, {name: Tensor.from_numpy(value) for name, value in tensors.items()}, card)
    except OSError as error:
        raise UserError(target, f"cannot be written: {error.strerror or error}") from error


def class_names(
    path: Path, classes: int, names: tuple[str, ...] | None, architecture: str
) -> tuple[str, ...]:
    """Return the names given, or COCO's for a detector of 80 classes, or numbers. Raises UserError on another count."""
    if names is None:
        is_coco = classes == len(COCO_NAMES) and architecture != "cspdarknet53"
        return COCO_NAMES if is_coco else tuple(str(number) for number in range(classes))
    if len(names) != classes:
        raise UserError("--names", f"wrong count for {path}", len(names), f"{classes} classes")
    return names


def sha256_of(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(targets: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write files so that each appears whole or not at all, the last one last: name -> function that writes a path."""
    unfinished = {
        target: target.with_name(f".{target.stem}.unfinished{target.suffix}") for target in targets
    }
    target = next(iter(targets))
    try:
        for target, write in targets.items():
            write(unfinished[target])
            unfinished[target].chmod(0o644)  # MindSpore makes its files read-only
            with unfinished[target].open("rb") as file:
                os.fsync(file.fileno())
        for target, path in unfinished.items():
            path.replace(target)
    except OSError as error:
        raise UserError(target, f"cannot be written: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(target, f"cannot be written: {error}") from error
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def note(text: str) -> None:
    """Tell the user something beside the result."""
    print(f"note: {text}", file=sys.stderr)

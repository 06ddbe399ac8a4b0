"""Our own checkpoints as .safetensors and back, everything in them kept: python -m convert.safetensors SRC DST"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import build_card, parse_card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.formats import describe
from mindyolo_v4.checkpoint.index import CARD
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.command import parse_request, refuse_options
from mindyolo_v4.weights.files import (
    check_finite,
    model_tensors,
    read_safetensors,
    recognise,
    write_checkpoint,
    write_whole,
)


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    request = parse_request(argv, "safetensors", __doc__)
    refuse_options(request, "the card says it")
    kind = recognise(request.source)
    if kind == "mindyolo_v4":
        _to_safetensors(request.source, request.target)
    elif kind == "safetensors":
        _to_checkpoint(request.source, request.target)
    else:
        raise UserError(
            request.source,
            "neither a checkpoint of ours nor a safetensors file",
            describe(request.source),
        )
    print(f"{request.source} -> {request.target}")
    return 0


def _to_safetensors(source: Path, target: Path) -> None:
    if target.suffix != ".safetensors":
        raise UserError(target, "must end in .safetensors", target.suffix, ".safetensors")
    checkpoint = Checkpoint.open(source)
    tensors = checkpoint.tensors()
    check_finite(source, model_tensors(tensors))
    metadata = {CARD: json.dumps(checkpoint.tree), "format": "np"}
    write_whole({target: lambda path: _save(tensors, path, metadata)})


def _save(tensors: Mapping[str, NDArray], path: Path, metadata: dict[str, str]) -> None:
    # Not ascontiguousarray: it gives a single number an axis.
    safetensors.numpy.save_file(
        {name: np.asarray(value, order="C") for name, value in tensors.items()}, path, metadata
    )


def _to_checkpoint(source: Path, target: Path) -> None:
    if target.suffix != ".ckpt":
        raise UserError(target, "a checkpoint of ours must end in .ckpt", target.suffix, ".ckpt")
    tensors, metadata = read_safetensors(source)
    if CARD not in metadata:
        raise UserError(
            source,
            "holds no card of ours",
            describe(source),
            "others' files: python -m convert.pytorch",
        )
    card = parse_card(source, metadata[CARD])
    build_card(source, card)  # raises where it is damaged
    check_finite(source, model_tensors(tensors))
    write_checkpoint(target, tensors, card)

"""Our checkpoints as .safetensors and back, without loss: python -m convert.safetensors SRC DST"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from mindyolo_v4.checkpoint.card import build_card, parse_card
from mindyolo_v4.checkpoint.file import Checkpoint, check_network
from mindyolo_v4.checkpoint.formats import Identity
from mindyolo_v4.checkpoint.index import CARD
from mindyolo_v4.config.command_line import command_for
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.command import parse_request, refuse_options, require_suffix
from mindyolo_v4.weights.files import (
    check_finite,
    model_tensors,
    output_file,
    read_safetensors,
    write_checkpoint,
)


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    request = parse_request(argv, "safetensors", "Our checkpoints as .safetensors and back.")
    refuse_options(request, "the card says it")
    what = request.what
    if what.kind == "mindyolo_v4":
        _to_safetensors(what, request.target)
    elif what.kind == "safetensors":
        _to_checkpoint(what, request.target)
    else:
        problem = "neither a checkpoint of ours nor a safetensors file"
        raise UserError(what.path, problem, what.description)
    print(f"{request.source} -> {request.target}")
    return 0


def _to_safetensors(what: Identity, target: Path) -> None:
    require_suffix(target, ".safetensors")
    checkpoint = Checkpoint.of(what)
    tensors = checkpoint.file.tensors()
    check_finite(what.path, model_tensors(tensors))
    # Not ascontiguousarray: it gives a single number an axis.
    values = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    metadata = {CARD: json.dumps(checkpoint.tree), "format": "np"}
    with output_file(target) as unfinished:
        safetensors.numpy.save_file(values, unfinished, metadata)


def _to_checkpoint(what: Identity, target: Path) -> None:
    source = what.path
    require_suffix(target, ".ckpt", "a checkpoint of ours")
    tensors, metadata = read_safetensors(source)
    if CARD not in metadata:
        hint = f"others' files: {command_for('convert pytorch')}"
        raise UserError(source, "holds no card of ours", what.description, hint)
    card = parse_card(source, metadata[CARD])
    held = {name: (value.shape, value.dtype.kind == "f") for name, value in tensors.items()}
    check_network(source, build_card(source, card), held)
    check_finite(source, model_tensors(tensors))
    write_checkpoint(target, tensors, card)

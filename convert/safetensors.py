"""Our own checkpoints as .safetensors and back, everything in them kept: python -m convert.safetensors SRC DST"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from mindspore import Tensor
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from convert.command import parse_request
from convert.files import read_mindspore, write_whole
from mindyolo_v4.cards import build_card
from mindyolo_v4.command_line import run_command
from mindyolo_v4.engine import checkpoint
from mindyolo_v4.formats import CARD, describe, identify
from mindyolo_v4.schema.errors import UserError

_OPTIONS = ("--arch", "--names", "--partial")


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    request = parse_request(argv, "safetensors", __doc__)
    for name, value in zip(_OPTIONS, (request.architecture, request.names, request.partial), strict=True):
        if value is not None:
            raise UserError(name, "has no meaning here: the card says it", value)
    kind = identify(request.source)
    if kind == "mindyolo_v4":
        _to_safetensors(request.source, request.target)
    elif kind == "safetensors":
        _to_checkpoint(request.source, request.target)
    else:
        raise UserError(request.source, "neither a checkpoint of ours nor a safetensors file", describe(request.source))
    print(f"{request.source} -> {request.target}")
    return 0


def _to_safetensors(source: Path, target: Path) -> None:
    if target.suffix != ".safetensors":
        raise UserError(target, "must end in .safetensors", target.suffix, ".safetensors")
    card = checkpoint.load_card(source)
    tensors = read_mindspore(source)
    metadata = {CARD: json.dumps(card), "format": "np"}
    write_whole({target: lambda path: _save(tensors, path, metadata)})


def _save(tensors: Mapping[str, NDArray], path: Path, metadata: dict[str, str]) -> None:
    safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata)


def _to_checkpoint(source: Path, target: Path) -> None:
    if target.suffix != ".ckpt":
        raise UserError(target, "a checkpoint of ours must end in .ckpt", target.suffix, ".ckpt")
    try:
        with safe_open(source, "np") as file:
            card = json.loads((file.metadata() or {}).get(CARD, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()} if card else {}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError) as error:
        size = f"{source.stat().st_size} bytes"
        raise UserError(source, f"no whole safetensors file: {error}", size) from error
    if not card:
        raise UserError(
            source, "holds no card of ours", describe(source), "python -m convert.pytorch for others' files"
        )
    build_card(source, card)  # raises where it is damaged
    checkpoint.save(target, {name: Tensor.from_numpy(value) for name, value in tensors.items()}, card)


if __name__ == "__main__":
    sys.exit(run_command(main))

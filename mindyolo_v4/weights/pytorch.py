"""PyTorch weights (Tianxiaomo, WongKinYiu, DeepSpark, timm): python -m convert.pytorch SRC DST"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.command import Request, convert
from mindyolo_v4.weights.files import Converted, Own, output_file, read_safetensors
from mindyolo_v4.weights.scheme_files import export_checked, from_scheme
from mindyolo_v4.weights.torch_file import plain_names, read_tensors
from mindyolo_v4.weights.torch_schemes import SCHEMES, TIANXIAOMO, scheme_of

_COUNTER = "num_batches_tracked"


def to_ours(request: Request) -> Converted:
    """Convert a .pth or .safetensors file; the names of its tensors tell whose it is."""
    path = request.source
    what = request.what
    if what.kind not in ("pytorch", "safetensors"):
        raise UserError(path, "no PyTorch file", what.description, ".pth, .pt or .safetensors")
    # First of all: reading says what is damaged or would run code.
    tensors = read_torch(path, what.kind)
    if what.family is None or what.family.name not in SCHEMES:
        known = "one of " + ", ".join(scheme.description for scheme in SCHEMES.values())
        raise UserError(path, "no PyTorch weights that are known here", what.description, known)
    scheme = scheme_of(what.family.name, tensors)
    converted = from_scheme(request, tensors, scheme)
    counters = {
        scheme.usual(name).removesuffix(_COUNTER): int(value)
        for name, value in tensors.items()
        if name.endswith(_COUNTER) and value.size == 1
    }
    same = len(set(counters.values())) == 1
    origin = {_COUNTER: next(iter(counters.values())) if same else counters}
    return replace(converted, origin=origin)


def to_theirs(target: Path, own: Own) -> Sequence[Path]:
    """Write a .safetensors or, where PyTorch is installed, .pth file with Tianxiaomo's names."""
    if target.suffix not in (".safetensors", ".pth"):
        raise UserError(target, "not a PyTorch format", target.suffix, ".safetensors or .pth")
    tensors = export_checked(own, TIANXIAOMO)
    tensors |= _counters(tensors, own)
    if target.suffix == ".pth":
        write_pth(target, tensors)
    else:
        with output_file(target) as unfinished:
            safetensors.numpy.save_file(tensors, unfinished)
    return (target,)


def read_torch(path: Path, kind: str) -> dict[str, NDArray]:
    """Return the tensors of a "pytorch" or "safetensors" file. Raises UserError on damage."""
    if kind == "safetensors":
        return plain_names(path, read_safetensors(path)[0])
    return read_tensors(path)


def write_pth(path: Path, tensors: Mapping[str, NDArray]) -> None:
    """Save arrays as a state dict that torch.load(weights_only=True) takes."""
    try:
        import torch
    except ImportError as error:
        problem = "PyTorch is not installed, which writes this format"
        raise UserError(path, problem, None, str(path.with_suffix(".safetensors"))) from error
    # PyTorch warns of tensors over read-only memory, hence the copies.
    state = OrderedDict(
        (name, torch.from_numpy(np.array(array, order="C"))) for name, array in tensors.items()
    )
    # Given a path, PyTorch would put its name into the file.
    with output_file(path) as unfinished, unfinished.open("wb") as file:
        torch.save(state, file)


def _counters(tensors: Mapping[str, NDArray], own: Own) -> dict[str, NDArray]:
    """Return the counters of batches: as the source had them, 0 for a network trained here."""
    is_theirs = own.card.source_format.startswith("tianxiaomo")
    kept = own.card.origin.get(_COUNTER, 0) if is_theirs else 0
    norms = [name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")]
    # A dict: they differ, or the file is of a PyTorch that did not count.
    found = kept if isinstance(kept, dict) else dict.fromkeys(norms, kept)
    values = {norm: found[norm] for norm in norms if norm in found}
    are_counts = all(type(value) is int and 0 <= value < 1 << 63 for value in values.values())
    if not are_counts:
        raise UserError(own.path, f"its card is damaged: card.origin.{_COUNTER}", kept, "counts")
    return {f"{norm}{_COUNTER}": np.array(value, np.int64) for norm, value in values.items()}


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    description = "PyTorch weights of Tianxiaomo, WongKinYiu, DeepSpark, timm and bubbliiing."
    return convert(argv, "pytorch", description, to_ours, to_theirs)

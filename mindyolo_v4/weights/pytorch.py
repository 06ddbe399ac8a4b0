"""PyTorch weights of Tianxiaomo, WongKinYiu, DeepSpark and timm: python -m convert.pytorch SRC DST"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.formats import describe, family_of, identify
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.command import Request, convert
from mindyolo_v4.weights.files import Converted, Own, read_safetensors, write_whole
from mindyolo_v4.weights.scheme_files import export_checked, from_scheme
from mindyolo_v4.weights.torch_file import plain_names, read_tensors
from mindyolo_v4.weights.torch_save import write_pth
from mindyolo_v4.weights.torch_schemes import (
    DEEPSPARK,
    TIANXIAOMO,
    TIANXIAOMO_CFG,
    TIMM,
    WONGKINYIU,
)

SCHEMES = {
    scheme.name: scheme for scheme in (TIANXIAOMO, TIANXIAOMO_CFG, WONGKINYIU, DEEPSPARK, TIMM)
}
_COUNTER = "num_batches_tracked"


def to_ours(request: Request) -> Converted:
    """Convert a .pth or .safetensors file; the names of its tensors tell whose it is."""
    if identify(request.source) not in ("pytorch", "safetensors"):
        raise UserError(
            request.source, "no PyTorch file", describe(request.source), ".pth, .pt or .safetensors"
        )
    tensors = read_torch(
        request.source
    )  # before the names are looked at: it says what is damaged or would run code
    family = family_of(request.source)
    if family is None or family.name not in SCHEMES:
        known = "one of " + ", ".join(scheme.description for scheme in SCHEMES.values())
        raise UserError(
            request.source,
            "no PyTorch weights that are known here",
            describe(request.source),
            known,
        )
    scheme = SCHEMES[family.name]
    converted = from_scheme(request, tensors, scheme)
    counted = {
        name: int(value)
        for name, value in tensors.items()
        if name.endswith(_COUNTER) and value.size == 1
    }
    counters = {scheme.usual(name).removesuffix(_COUNTER): value for name, value in counted.items()}
    same = len(set(counters.values())) == 1
    return replace(
        converted, origin={_COUNTER: next(iter(counters.values())) if same else counters}
    )


def to_theirs(request: Request, own: Own) -> Sequence[Path]:
    """Write a checkpoint of ours with Tianxiaomo's names, as .safetensors or, where PyTorch is installed, .pth."""
    if request.target.suffix not in (".safetensors", ".pth"):
        raise UserError(
            request.target, "not a PyTorch format", request.target.suffix, ".safetensors or .pth"
        )
    tensors = export_checked(own, TIANXIAOMO)
    tensors |= _counters(tensors, own)
    if request.target.suffix == ".pth":
        write_pth(request.target, tensors)
    else:
        write_whole({request.target: lambda path: safetensors.numpy.save_file(tensors, path)})
    return (request.target,)


def read_torch(path: Path) -> dict[str, NDArray]:
    """Return the tensors of a .pth or .safetensors file. Raises UserError where it is damaged."""
    return (
        plain_names(path, read_safetensors(path)[0])
        if identify(path) == "safetensors"
        else read_tensors(path)
    )


def _counters(tensors: dict[str, NDArray], own: Own) -> dict[str, NDArray]:
    """Return what PyTorch keeps beside running statistics: as the source had it, 0 for a network trained here."""
    kept = (
        own.card.origin.get(_COUNTER, 0) if own.card.source_format.startswith("tianxiaomo") else 0
    )
    norms = [name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")]
    if isinstance(kept, dict):  # they differ, or the file is of a PyTorch that did not count
        values = {norm: kept[norm] for norm in norms if norm in kept}
    else:
        values = dict.fromkeys(norms, kept)
    return {f"{norm}{_COUNTER}": np.array(value, np.int64) for norm, value in values.items()}


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "pytorch", __doc__, to_ours, to_theirs)

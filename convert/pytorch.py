"""PyTorch weights of Tianxiaomo, WongKinYiu, DeepSpark and timm: python -m convert.pytorch SRC DST"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from convert.command import Request, convert
from convert.files import Converted, Own, write_whole
from convert.scheme_files import export_checked, from_scheme
from convert.torch_file import read_tensors
from convert.torch_save import write_pth
from convert.torch_schemes import DEEPSPARK, TIANXIAOMO, TIANXIAOMO_CFG, TIMM, WONGKINYIU
from mindyolo_v4.formats import describe, family_of, identify
from mindyolo_v4.schema.errors import UserError

SCHEMES = {
    "tianxiaomo": (TIANXIAOMO, "yolov4"),
    "tianxiaomo_cfg": (TIANXIAOMO_CFG, "yolov4"),
    "wongkinyiu": (WONGKINYIU, "yolov4"),
    "deepspark": (DEEPSPARK, "cspdarknet53"),
    "timm": (TIMM, "cspdarknet53"),
}
_COUNTER = "num_batches_tracked"


def to_ours(request: Request) -> Converted:
    """Convert a .pth or .safetensors file; the names of its tensors tell whose it is."""
    family = family_of(request.source)
    if family is None or family.name not in SCHEMES:
        raise UserError(
            request.source,
            "no PyTorch weights that are known here",
            describe(request.source),
            "one of " + ", ".join(scheme.description for scheme, _ in SCHEMES.values()),
        )
    tensors = read_torch(request.source)
    scheme, architecture = SCHEMES[family.name]
    converted = from_scheme(request, tensors, scheme, architecture)
    counters = {int(value) for name, value in tensors.items() if name.endswith(_COUNTER)}
    origin = {_COUNTER: counters.pop()} if len(counters) == 1 else {}
    return replace(converted, origin=origin)


def to_theirs(request: Request, own: Own) -> Sequence[Path]:
    """Write a checkpoint of ours with Tianxiaomo's names, as .safetensors or, where PyTorch is installed, .pth."""
    if own.card.architecture not in ("yolov4", "yolov4-silu"):
        raise UserError(own.path, "Tianxiaomo's names are those of YOLOv4", own.card.architecture, "yolov4")
    writers = {".safetensors": lambda path, tensors: safetensors.numpy.save_file(tensors, path), ".pth": write_pth}
    if request.target.suffix not in writers:
        raise UserError(request.target, "not a PyTorch format", request.target.suffix, ".safetensors or .pth")
    tensors = export_checked(own, TIANXIAOMO)
    tensors |= _counters(tensors, own)
    write = writers[request.target.suffix]
    write_whole({request.target: lambda path: write(path, tensors)})
    return (request.target,)


def read_torch(path: Path) -> dict[str, NDArray]:
    """Return the tensors of a .pth or .safetensors file. Raises UserError where it is damaged."""
    if identify(path) != "safetensors":
        return read_tensors(path)
    try:
        return {name: np.asarray(value) for name, value in safetensors.numpy.load_file(path).items()}
    except SafetensorError as error:
        raise UserError(path, f"no whole safetensors file: {error}", f"{path.stat().st_size} bytes") from error


def _counters(tensors: dict[str, NDArray], own: Own) -> dict[str, NDArray]:
    """Return what PyTorch keeps beside running statistics: as the source had it, 0 for a network trained here."""
    if own.card.source_format.startswith("tianxiaomo") and _COUNTER not in own.card.origin:
        return {}
    value = np.array(own.card.origin.get(_COUNTER, 0), np.int64)
    norms = (name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean"))
    return {f"{name}{_COUNTER}": value for name in norms}


if __name__ == "__main__":
    sys.exit(convert(None, "pytorch", __doc__, to_ours, to_theirs))

"""mindyolo's YOLOv4 (v0.5.0 and later): python -m convert.mindyolo SRC DST"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mindyolo_v4.weights.command import Request, convert
from mindyolo_v4.weights.files import Converted, Own, read_mindspore, sha256_of
from mindyolo_v4.weights.mindyolo_names import SCHEME
from mindyolo_v4.weights.scheme_files import export_checked, from_scheme, write_mindspore
from mindyolo_v4.weights.schemes import Scheme

# What mindyolo publishes is named after its score and the beginning of its SHA-256.
_PUBLISHED = re.compile(r"_map\d+-([0-9a-f]{8})\b.*\.ckpt$")


def to_ours(request: Request) -> Converted:
    """Convert a checkpoint of mindyolo, the averaged weights where it has both."""
    tensors = read_mindspore(request.source)
    tensors |= {
        name.removeprefix("ema."): value
        for name, value in tensors.items()
        if name.startswith("ema.")
    }
    scheme = scheme_of(tensors)
    if (
        scheme is not SCHEME and request.architecture == "yolov4-silu"
    ):  # of a backbone alone, this tells the activation
        scheme = replace(scheme, variants={"backbone_activation": "silu"})
        request = replace(request, architecture=None)
    converted = from_scheme(request, tensors, scheme)
    return replace(converted, notes=(*converted.notes, *published_digest_notes(request.source)))


def scheme_of(tensors: Iterable[str]) -> Scheme:
    """Return the names that the tensors of a checkpoint have: of the detector, or of its backbone alone."""
    is_detector = any(".66.m.0." in name for name in tensors)
    return SCHEME if is_detector else replace(SCHEME, architectures=("cspdarknet53",))


def published_digest_notes(path: Path) -> tuple[str, ...]:
    """Compare a file with the beginning of the SHA-256 that its publisher put into its name; say where they differ."""
    promised = _PUBLISHED.search(path.name)
    if promised is None or (found := sha256_of(path)).startswith(promised[1]):
        return ()
    return (
        f"{path}: not the published file, whose SHA-256 begins with {promised[1]} (got {found[:8]})",
    )


def to_theirs(request: Request, own: Own) -> Sequence[Path]:
    """Write a checkpoint of ours with mindyolo's names: exact, a 1x1 top-down kernel lying in the middle of a 3x3."""
    return write_mindspore(request.target, export_checked(own, SCHEME))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "mindyolo", __doc__, to_ours, to_theirs)

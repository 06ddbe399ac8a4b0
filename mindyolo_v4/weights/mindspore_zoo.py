"""The MindSpore model zoo's CSPDarknet53 and YOLOv4: python -m convert.mindspore_zoo SRC DST"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mindyolo_v4.weights.command import Request, convert
from mindyolo_v4.weights.files import Converted, Own, read_mindspore
from mindyolo_v4.weights.scheme_files import export_checked, from_scheme, write_mindspore
from mindyolo_v4.weights.schemes import Scheme
from mindyolo_v4.weights.zoo_names import CLASSIFIER, DETECTOR


def to_ours(request: Request) -> Converted:
    """Convert a checkpoint of the zoo, whatever wrapper its names begin with."""
    tensors = read_mindspore(request.source)
    return from_scheme(request, tensors, scheme_of(tensors))


def scheme_of(tensors: Iterable[str]) -> Scheme:
    """Return the names that the tensors of a checkpoint have."""
    return DETECTOR if any("backblock0." in name for name in tensors) else CLASSIFIER


def to_theirs(request: Request, own: Own) -> Sequence[Path]:
    """Write a checkpoint of ours with the zoo's names; exact where its stride-2 convolutions pad as the zoo's."""
    scheme = CLASSIFIER if own.card.architecture == "cspdarknet53" else DETECTOR
    return write_mindspore(request.target, export_checked(own, scheme))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "mindspore_zoo", __doc__, to_ours, to_theirs)

"""mindyolo's YOLOv4 (v0.5.0 and later): python -m convert.mindyolo SRC DST"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.runtime.files import sha256_of
from mindyolo_v4.weights.command import Request, convert
from mindyolo_v4.weights.files import Converted, Own, read_mindspore
from mindyolo_v4.weights.scheme_files import export_checked, from_scheme, write_mindspore
from mindyolo_v4.weights.schemes import MINDSPORE_NORM, Scheme, Slot, Suffixes, lookup

# Names are `model.model.N`, N counting the rows of mindyolo's YAML.
_MODEL = "model.model."
_PARTS = ("down", "main_in", "blocks", "main_out", "bypass", "transition")
_STAGE_ROWS = {
    1: (1, 2, 3, 4, 5, 7),
    2: (8, 9, 10, 11, 12, 14),
    3: (15, 16, 17, 18, 19, 21),
    4: (22, 23, 24, 25, 26, 28),
    5: (29, 30, 31, 32, 33, 35),
}
_ROWS = {
    "backbone.stem": "0",
    **{
        f"backbone.stage{stage}.{part}": str(row)
        for stage, rows in _STAGE_ROWS.items()
        for part, row in zip(_PARTS, rows, strict=True)
    },
    **{f"neck.pre_spp.{number}": row for number, row in enumerate(("36.conv1", "36.conv2", "37"))},
    **{f"neck.post_spp.{number}": str(42 + number) for number in range(3)},
    **{"neck.reduce5": "45", "neck.lateral4": "47", "neck.reduce4": "51", "neck.lateral3": "53"},
    **{"neck.down3": "58", "neck.down4": "63"},
    **{
        f"neck.{part}.{number}": f"{row}.{number // 2}.conv{number % 2 + 1}"
        for part, row in (("topdown4", 49), ("topdown3", 55), ("bottomup4", 60), ("bottomup5", 65))
        for number in range(4)
    },
    **{"neck.topdown4.4": "50", "neck.topdown3.4": "56", "neck.bottomup4.4": "61"},
    **{"head.expand3": "57", "head.expand4": "62"},
    # The last row holds three pairs: its sixth convolution is the one before the prediction.
    **{"neck.bottomup5.4": "65.2.conv1", "head.expand5": "65.2.conv2"},
    **{f"head.predict{level}": f"66.m.{5 - level}" for level in (3, 4, 5)},
}
_SWAPPED = ("neck.topdown4.0", "neck.topdown3.0")  # mindyolo joins [upsampled, lateral]
# The files that mindyolo publishes are named after their score and the beginning of their SHA-256.
_PUBLISHED = re.compile(r"_map\d+-([0-9a-f]{8})\b.*\.ckpt$")


def _slot(name: str, row: str) -> Slot:
    kernel = 3 if name == "neck.reduce4" else None
    return Slot(_MODEL + row, swapped=name in _SWAPPED, kernel=kernel)


def _block(stage: int, block: int, conv: int) -> str | None:
    # Only a repeated block has its index in the name; the first stage has a single one.
    row = _STAGE_ROWS[stage][2]
    if stage == 1:
        return f"{_MODEL}{row}.conv{conv}" if block == 0 else None
    return f"{_MODEL}{row}.{block}.conv{conv}"


SCHEME = Scheme(
    name="mindyolo",
    description="mindyolo's YOLOv4",
    suffixes=Suffixes(".conv.weight", ".bn", MINDSPORE_NORM, ".weight", ".bias"),
    slot=lookup({name: _slot(name, row) for name, row in _ROWS.items()}, _block),
    bn_eps=1e-3,
    preprocessing=Preprocessing("letterbox"),
    img_size=608,
    architectures=("yolov4", "yolov4-silu"),
    leading=r"ema\.|ema_model\.|network\.",
    ignored=(
        r"^(moments?|momentum|accum|stat|global_step|learning_rate|epoch_num|step_num|scale_sense"
        r"|updates)\b|^ema\.|^model\.model\.66\.(anchors|anchor_grid|stride)"
    ),
)


def to_ours(request: Request) -> Converted:
    """Convert a checkpoint of mindyolo, the averaged weights where it has both."""
    tensors = read_mindspore(request.what)
    averaged = [name for name in tensors if name.startswith("ema.")]
    tensors |= {name.removeprefix("ema."): tensors[name] for name in averaged}
    scheme = scheme_of(tensors)
    if scheme is not SCHEME and request.architecture == "yolov4-silu":
        # Of a backbone alone, this option names the activation.
        scheme = replace(scheme, variants={"backbone_activation": "silu"})
        request = replace(request, architecture=None)
    converted = from_scheme(request, tensors, scheme)
    return replace(converted, notes=(*converted.notes, *published_digest_notes(request.source)))


def scheme_of(tensors: Iterable[str]) -> Scheme:
    """Return the scheme of a checkpoint's names: of the detector, or of its backbone alone."""
    is_detector = any(".66.m.0." in name for name in tensors)
    return SCHEME if is_detector else replace(SCHEME, architectures=("cspdarknet53",))


def published_digest_notes(path: Path) -> tuple[str, ...]:
    """Return a note where a file is not the published one that its name says."""
    published = _PUBLISHED.search(path.name)
    if published is None or (digest := sha256_of(path)).startswith(published[1]):
        return ()
    expected = f"whose SHA-256 begins with {published[1]} (got {digest[:8]})"
    return (f"{path}: not the published file, {expected}",)


def to_theirs(target: Path, own: Own) -> Sequence[Path]:
    """Write a checkpoint of ours with mindyolo's names; a 1x1 top-down kernel is padded to 3x3."""
    return write_mindspore(target, export_checked(own, SCHEME))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "mindyolo", "mindyolo's YOLOv4, from v0.5.0.", to_ours, to_theirs)

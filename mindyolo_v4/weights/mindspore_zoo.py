"""The MindSpore model zoo's CSPDarknet53 and YOLOv4: python -m convert.mindspore_zoo SRC DST"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.weights.command import Request, convert
from mindyolo_v4.weights.files import Converted, Own, read_mindspore
from mindyolo_v4.weights.scheme_files import export_checked, from_scheme, write_mindspore
from mindyolo_v4.weights.schemes import IMAGENET, MINDSPORE_NORM, Scheme, Suffixes, lookup, plain

# The zoo numbers the convolutions of a stage in this order; only in the first stage the residual
# block is numbered too.
_FIRST_STAGE = (
    *("down", "main_in", "blocks.0.conv1", "blocks.0.conv2"),
    *("main_out", "bypass", "transition"),
)
_LATER_STAGES = ("down", "main_in", "main_out", "bypass", "transition")
_BACKBONE = {
    "backbone.stem": "backbone.conv0",
    **{f"backbone.stage1.{part}": f"backbone.conv{1 + i}" for i, part in enumerate(_FIRST_STAGE)},
    **{
        f"backbone.stage{stage}.{part}": f"backbone.conv{first + i}"
        for stage, first in ((2, 8), (3, 13), (4, 18), (5, 23))
        for i, part in enumerate(_LATER_STAGES)
    },
}
_NECK = {
    **{f"neck.pre_spp.{number}": f"conv{1 + number}" for number in range(3)},
    **{f"neck.post_spp.{number}": f"conv{4 + number}" for number in range(3)},
    **{"neck.reduce5": "conv7", "neck.lateral4": "conv8", "neck.reduce4": "conv9"},
    **{"neck.lateral3": "conv10", "neck.down3": "conv11", "neck.down4": "conv12"},
    **{
        f"neck.{part}.{number}": f"backblock{block}.conv{number}"
        for block, part in enumerate(("topdown4", "topdown3", "bottomup4", "bottomup5"))
        for number in range(5)
    },
    **{f"head.expand{level}": f"backblock{level - 2}.conv5" for level in (3, 4, 5)},
    **{f"head.predict{level}": f"backblock{level - 2}.conv6" for level in (3, 4, 5)},
}
_SWAPPED = ("neck.topdown4.0", "neck.topdown3.0")  # the zoo joins [upsampled, lateral]
_OPTIMIZER = (
    r"^(moments?|momentum|moment[12]|accum|stat|global_step|learning_rate|epoch_num|step_num"
    r"|scale_sense)\b"
)


def _block(stage: int, block: int, conv: int) -> str:
    return f"backbone.layer{stage}.{block}.conv{conv}"


CLASSIFIER = Scheme(
    name="mindspore_zoo",
    description="the MindSpore model zoo's cspdarknet53",
    suffixes=Suffixes(".0.weight", ".1", MINDSPORE_NORM, ".weight", ".bias"),
    slot=lookup(plain(_BACKBONE | {"fc": "head.fc"}), _block),
    bn_eps=1e-5,
    preprocessing=Preprocessing("stretch_crop", 114, "rgb", *IMAGENET, crop_fraction=224 / 256),
    img_size=224,
    architectures=("cspdarknet53",),
    leading=r"(?:network\.|yolo_network\.|feature_map\.|model\.(?=backbone|feature_map|network))*",
    ignored=_OPTIMIZER,
    variants={"stride2_padding": "same"},
)
DETECTOR = replace(
    CLASSIFIER,
    description="the MindSpore model zoo's YOLOv4",
    slot=lookup(plain(_BACKBONE | _NECK, _SWAPPED), _block),
    preprocessing=Preprocessing("stretch", 114, "rgb", *IMAGENET),
    img_size=608,
    architectures=("yolov4",),
    ignored=_OPTIMIZER + r"|^backblock0\.conv[56]\.",  # these two are built there but never run
    exported_prefix="feature_map.",
)


def to_ours(request: Request) -> Converted:
    """Convert a checkpoint of the zoo, whatever wrapper its names begin with."""
    tensors = read_mindspore(request.what)
    return from_scheme(request, tensors, scheme_of(tensors))


def scheme_of(tensors: Iterable[str]) -> Scheme:
    """Return the scheme of a checkpoint's names."""
    return DETECTOR if any("backblock0." in name for name in tensors) else CLASSIFIER


def to_theirs(target: Path, own: Own) -> Sequence[Path]:
    """Write a checkpoint of ours with the zoo's names."""
    scheme = CLASSIFIER if own.card.architecture == "cspdarknet53" else DETECTOR
    return write_mindspore(target, export_checked(own, scheme))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    description = "The MindSpore model zoo's CSPDarknet53 and YOLOv4."
    return convert(argv, "mindspore_zoo", description, to_ours, to_theirs)

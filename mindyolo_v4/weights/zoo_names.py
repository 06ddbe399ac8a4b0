"""Names of the MindSpore model zoo: cspdarknet53 (research/cv) and YOLOv4 (official/cv)."""

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.weights.names import lookup, plain
from mindyolo_v4.weights.schemes import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MINDSPORE_NORM,
    Scheme,
    Suffixes,
)

# The zoo numbers a stage's convolutions down, main path in and out, bypass, transition; the first stage counts its
# residual block between.
_STAGE_NUMBERS = {
    1: {
        "down": 1,
        "main_in": 2,
        "blocks.0.conv1": 3,
        "blocks.0.conv2": 4,
        "main_out": 5,
        "bypass": 6,
        "transition": 7,
    },
    **{
        stage: dict(
            zip(
                ("down", "main_in", "main_out", "bypass", "transition"),
                range(first, first + 5),
                strict=True,
            )
        )
        for stage, first in ((2, 8), (3, 13), (4, 18), (5, 23))
    },
}
BACKBONE = {"backbone.stem": "backbone.conv0"} | {
    f"backbone.stage{stage}.{part}": f"backbone.conv{number}"
    for stage, parts in _STAGE_NUMBERS.items()
    for part, number in parts.items()
}
_NECK = {
    **{f"neck.pre_spp.{number}": f"conv{1 + number}" for number in range(3)},
    **{f"neck.post_spp.{number}": f"conv{4 + number}" for number in range(3)},
    "neck.reduce5": "conv7",
    "neck.lateral4": "conv8",
    "neck.reduce4": "conv9",
    "neck.lateral3": "conv10",
    "neck.down3": "conv11",
    "neck.down4": "conv12",
    **{
        f"neck.{part}.{number}": f"backblock{block}.conv{number}"
        for block, part in enumerate(("topdown4", "topdown3", "bottomup4", "bottomup5"))
        for number in range(5)
    },
    **{f"head.expand{level}": f"backblock{level - 2}.conv5" for level in (3, 4, 5)},
    **{f"head.predict{level}": f"backblock{level - 2}.conv6" for level in (3, 4, 5)},
}
_SWAPPED = ("neck.topdown4.0", "neck.topdown3.0")  # the zoo joins [upsampled, lateral]
_OPTIMIZER = r"^(moments?|momentum|moment[12]|accum|stat|global_step|learning_rate|epoch_num|step_num|scale_sense)\b"
_SUFFIXES = Suffixes(".0.weight", *(f".1{part}" for part in MINDSPORE_NORM), ".weight", ".bias")


def _block(stage: int, block: int, conv: int) -> str:
    number = _STAGE_NUMBERS[1].get(f"blocks.{block}.conv{conv}") if stage == 1 else None
    return f"backbone.conv{number}" if number else f"backbone.layer{stage}.{block}.conv{conv}"


CLASSIFIER = Scheme(
    name="mindspore_zoo",
    description="the MindSpore model zoo's cspdarknet53",
    suffixes=_SUFFIXES,
    place=lookup(plain(BACKBONE | {"fc": "head.fc"}), _block),
    bn_eps=1e-5,
    preprocessing=Preprocessing(
        "stretch_crop", 114, "rgb", IMAGENET_MEAN, IMAGENET_STD, crop_fraction=224 / 256
    ),
    img_size=224,
    architectures=("cspdarknet53",),
    leading=r"(?:network\.|yolo_network\.|feature_map\.|model\.(?=backbone|feature_map|network))*",
    ignored=_OPTIMIZER,
    variants={"stride2_padding": "same"},
)
DETECTOR = Scheme(
    name="mindspore_zoo",
    description="the MindSpore model zoo's YOLOv4",
    suffixes=_SUFFIXES,
    place=lookup(plain(BACKBONE | _NECK, _SWAPPED), _block),
    bn_eps=1e-5,
    preprocessing=Preprocessing("stretch", 114, "rgb", IMAGENET_MEAN, IMAGENET_STD),
    img_size=608,
    architectures=("yolov4",),
    leading=CLASSIFIER.leading,
    ignored=_OPTIMIZER + r"|^backblock0\.conv[56]\.",  # these two are built there but never run
    exported_prefix="feature_map.",
    variants={"stride2_padding": "same"},
)

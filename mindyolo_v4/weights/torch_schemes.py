"""Names of PyTorch projects: Tianxiaomo, WongKinYiu, bubbliiing; DeepSpark, timm (classifiers)."""

from collections.abc import Iterable
from dataclasses import replace

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.cspdarknet53 import STAGES
from mindyolo_v4.models.topology import layers_of
from mindyolo_v4.weights.schemes import IMAGENET, TORCH_NORM, Scheme, Slot, Suffixes, lookup, plain

_COUNTERS = r"\.num_batches_tracked$|^n_averaged$"
_CROP = Preprocessing("crop", 114, "rgb", *IMAGENET, crop_fraction=224 / 256)

# Section in darknet's cfg of every layer of YOLOv4.
_SECTIONS = {layer.name: layer.idx for layer in layers_of(ModelConfig(), 80)}

# Tianxiaomo: the first stage counts its residual block too, the others have theirs in a list.
_TX_FIRST = (
    *("down", "bypass", "main_in", "blocks.0.conv1", "blocks.0.conv2"),
    *("main_out", "transition"),
)
_TX_STAGE = ("down", "bypass", "main_in", "main_out", "transition")
_TX_NECK = [name for name in _SECTIONS if name.startswith(("neck.p", "neck.r", "neck.l", "neck.t"))]
_TX_HEAD = [name for name in _SECTIONS if not name.startswith(("backbone.", *_TX_NECK))]
_TX_PREFIXES = {
    "backbone.stem": "down1.conv1",
    **{f"backbone.stage1.{part}": f"down1.conv{2 + i}" for i, part in enumerate(_TX_FIRST)},
    **{
        f"backbone.stage{stage}.{part}": f"down{stage}.conv{1 + i}"
        for stage in range(2, 6)
        for i, part in enumerate(_TX_STAGE)
    },
    **{name: f"neck.conv{1 + i}" for i, name in enumerate(_TX_NECK)},
    **{name: f"head.conv{1 + i}" for i, name in enumerate(_TX_HEAD)},
}


def _tx_block(stage: int, block: int, conv: int) -> str | None:
    return f"down{stage}.resblock.module_list.{block}.{conv - 1}" if stage > 1 else None


TIANXIAOMO = Scheme(
    name="tianxiaomo",
    description="Tianxiaomo's pytorch-YOLOv4",
    suffixes=Suffixes(".conv.0.weight", ".conv.1", TORCH_NORM, ".conv.0.weight", ".conv.0.bias"),
    slot=lookup(plain(_TX_PREFIXES), _tx_block),
    bn_eps=1e-5,
    preprocessing=Preprocessing("stretch"),
    img_size=608,
    architectures=("yolov4",),
    aliases=(("neek.", "neck."),),  # so misspelt until June 2021
    ignored=_COUNTERS,
)


# Tianxiaomo's other loader counts sections and convolutions.
_CFG_SLOTS = {
    name: Slot(f"models.{idx}", number=number)
    for number, (name, idx) in enumerate(_SECTIONS.items(), start=1)
}
TIANXIAOMO_CFG = replace(
    TIANXIAOMO,
    name="tianxiaomo_cfg",
    suffixes=Suffixes(".conv#.weight", ".bn#", TORCH_NORM, ".conv#.weight", ".conv#.bias"),
    slot=_CFG_SLOTS.get,
    aliases=(),
)
WONGKINYIU = Scheme(
    name="wongkinyiu",
    description="WongKinYiu's PyTorch_YOLOv4",
    suffixes=Suffixes(
        ".Conv2d.weight", ".BatchNorm2d", TORCH_NORM, ".Conv2d.weight", ".Conv2d.bias"
    ),
    slot=plain({name: f"module_list.{idx}" for name, idx in _SECTIONS.items()}).get,
    bn_eps=1e-4,
    preprocessing=Preprocessing("letterbox"),
    img_size=640,
    architectures=("yolov4", "yolov4-silu"),
    ignored=_COUNTERS,
    variants={"box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)},
)


def _deepspark_prefixes() -> dict[str, str]:
    prefixes = {"backbone.stem": "stage1", "backbone.stage5.transition": "conv", "fc": "fc"}
    for stage in range(1, 6):
        ours = f"backbone.stage{stage}"
        theirs = f"stage{stage + 1}"
        prefixes |= {
            f"{ours}.down": f"{theirs}.{'conv1' if stage == 1 else 'conv2'}",
            f"{ours}.bypass": f"{theirs}.split0",
            f"{ours}.main_in": f"{theirs}.split1",
            f"{ours}.main_out": f"{theirs}.{'conv3' if stage == 2 else 'conv4'}",
        }
        if stage > 1:  # a stage begins with the transition of the one before
            prefixes[f"backbone.stage{stage - 1}.transition"] = f"{theirs}.conv1"
    return prefixes


def _deepspark_block(stage: int, block: int, conv: int) -> str | None:
    if stage == 1:
        return f"stage2.conv{1 + conv}" if block == 0 else None
    if stage == 2:
        return f"stage3.block{block + 1}.features.{conv - 1}"
    return f"stage{stage + 1}.blocks.{block}.features.{conv - 1}"


_TRANSITIONS = tuple(f"backbone.stage{stage}.transition" for stage in range(1, 6))
DEEPSPARK = Scheme(
    name="deepspark",
    description="DeepSpark's CSPDarknet53",
    suffixes=Suffixes(".layers.0.weight", ".layers.1", TORCH_NORM),
    slot=lookup(plain(_deepspark_prefixes(), _TRANSITIONS), _deepspark_block),
    bn_eps=1e-5,
    preprocessing=_CROP,
    img_size=224,
    architectures=("cspdarknet53",),
    ignored=_COUNTERS,
)


def _timm_slots() -> dict[str, Slot]:
    slots = {"backbone.stem": Slot("stem.conv1"), "fc": Slot("head.fc")}
    for stage in range(1, 6):
        ours = f"backbone.stage{stage}"
        theirs = f"stages.{stage - 1}"
        slots |= {
            f"{ours}.down": Slot(f"{theirs}.conv_down"),
            f"{ours}.bypass": Slot(f"{theirs}.conv_exp", rows="first"),
            f"{ours}.main_in": Slot(f"{theirs}.conv_exp", rows="second"),
            f"{ours}.main_out": Slot(f"{theirs}.conv_transition_b"),
            f"{ours}.transition": Slot(f"{theirs}.conv_transition", swapped=True),
        }
    return slots


TIMM = replace(
    DEEPSPARK,
    name="timm",
    description="timm's cspdarknet53",
    suffixes=Suffixes(".conv.weight", ".bn", TORCH_NORM),
    slot=lookup(
        _timm_slots(), lambda stage, block, conv: f"stages.{stage - 1}.blocks.{block}.conv{conv}"
    ),
    preprocessing=replace(_CROP, crop_fraction=0.887),
    img_size=256,
    variants={"backbone_activation": "leaky001"},
)


def _bubbliiing_prefixes() -> dict[str, str]:
    """Return the names of yolov4-pytorch, whose blocks are always as many as in yolov4.cfg."""
    prefixes = {"backbone.stem": "backbone.conv1"}
    for number, stage in enumerate(STAGES):
        ours = f"backbone.stage{number + 1}"
        theirs = f"backbone.stages.{number}"
        prefixes |= {
            f"{ours}.down": f"{theirs}.downsample_conv",
            f"{ours}.bypass": f"{theirs}.split_conv0",
            f"{ours}.main_in": f"{theirs}.split_conv1",
            f"{ours}.main_out": f"{theirs}.blocks_conv.{stage.blocks}",
            f"{ours}.transition": f"{theirs}.concat_conv",
        }
    for part, theirs in (("pre_spp", "conv1"), ("post_spp", "conv2")):
        prefixes |= {f"neck.{part}.{number}": f"{theirs}.{number}" for number in range(3)}
    for number, part in enumerate(("topdown4", "topdown3", "bottomup4", "bottomup5"), start=1):
        theirs = f"make_five_conv{number}"
        prefixes |= {f"neck.{part}.{conv}": f"{theirs}.{conv}" for conv in range(5)}
    for level in (3, 4, 5):
        prefixes[f"head.expand{level}"] = f"yolo_head{6 - level}.0"
        prefixes[f"head.predict{level}"] = f"yolo_head{6 - level}.1"
    return prefixes | {
        **{"neck.reduce5": "upsample1.upsample.0", "neck.reduce4": "upsample2.upsample.0"},
        **{"neck.lateral4": "conv_for_P4", "neck.lateral3": "conv_for_P3"},
        **{"neck.down3": "down_sample1", "neck.down4": "down_sample2"},
    }


def _bubbliiing_block(stage: int, block: int, conv: int) -> str:
    return f"backbone.stages.{stage - 1}.blocks_conv.{block}.block.{conv - 1}"


# A backbone that was saved alone has no prefix. "conv1.0.conv" is a part of the neck.
_ALONE = tuple(
    (name, f"backbone.{name}")
    for name in (
        *("stages.", "resblock_body1.", "resblock_body2.", "resblock_body3."),
        *(f"conv{number}.{part}." for number in (1, 2, 3) for part in ("conv", "bn")),
    )
)
_TINY_PARTS = {"entry": "conv1", "part1": "conv2", "part2": "conv3", "merge": "conv4"}
_TINY_PREFIXES = {
    **{"backbone.stem0": "backbone.conv1", "backbone.stem1": "backbone.conv2"},
    **{
        f"backbone.block{number}.{part}": f"backbone.resblock_body{number}.{theirs}"
        for number in (1, 2, 3)
        for part, theirs in _TINY_PARTS.items()
    },
    **{"backbone.final": "backbone.conv3", "neck.reduce": "conv_for_P5"},
    **{"neck.lateral": "upsample.upsample.0"},
    **{f"head.expand{level}": f"yolo_headP{level}.0" for level in (4, 5)},
    **{f"head.predict{level}": f"yolo_headP{level}.1" for level in (4, 5)},
}
BUBBLIIING = replace(
    TIANXIAOMO,
    name="bubbliiing",
    description="bubbliiing's yolov4-pytorch",
    suffixes=Suffixes(".conv.weight", ".bn", TORCH_NORM, ".weight", ".bias"),
    slot=lookup(plain(_bubbliiing_prefixes()), _bubbliiing_block),
    img_size=416,
    aliases=_ALONE,
    variants={"scale_x_y": (1.0, 1.0, 1.0)},
    assumed=(
        "the file does not tell anchors, masks, input size and resize: taken are those of "
        "bubbliiing's yolo_anchors.txt and yolo.py (416 px, letterbox_image False)"
    ),
)
BUBBLIIING_TINY = replace(
    BUBBLIIING,
    name="bubbliiing_tiny",
    description="bubbliiing's yolov4-tiny-pytorch",
    slot=plain(_TINY_PREFIXES).get,
    architectures=("yolov4-tiny",),
    variants={"scale_x_y": (1.0, 1.0)},
)
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        *(TIANXIAOMO, TIANXIAOMO_CFG, WONGKINYIU, BUBBLIIING, BUBBLIIING_TINY),
        *(DEEPSPARK, TIMM),
    )
}


def scheme_of(family: str, tensors: Iterable[str]) -> Scheme:
    """Return the scheme of a file's names: of a detector, or of bubbliiing's backbone alone."""
    scheme = SCHEMES[family]
    if family not in (BUBBLIIING.name, BUBBLIIING_TINY.name):
        return scheme
    if any(name.startswith("yolo_head") for name in tensors):
        return scheme
    alone = ("cspdarknet53",) if family == BUBBLIIING.name else scheme.architectures
    return replace(scheme, architectures=alone, variants={}, assumed="")

"""Names of PyTorch projects: Tianxiaomo, WongKinYiu (detectors), DeepSpark and timm (classifiers)."""

from dataclasses import replace

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.weights.names import STAGE_PARTS, lookup, neck_and_head, plain
from mindyolo_v4.weights.schemes import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TORCH_NORM,
    Place,
    Scheme,
    Suffixes,
)
from mindyolo_v4.weights.topology import layers_of

_COUNTERS = r"\.num_batches_tracked$|^n_averaged$"
_IMAGENET_CROP = Preprocessing(
    "crop", 114, "rgb", IMAGENET_MEAN, IMAGENET_STD, crop_fraction=224 / 256
)

# Tianxiaomo: the first down-sample counts all its convolutions, the others keep residual blocks in a list.
_TX_FIRST = (
    "down",
    "bypass",
    "main_in",
    "blocks.0.conv1",
    "blocks.0.conv2",
    "main_out",
    "transition",
)
_TX_PLACES = {
    "backbone.stem": "down1.conv1",
    **{
        f"backbone.stage1.{part}": f"down1.conv{number}"
        for number, part in enumerate(_TX_FIRST, start=2)
    },
    **{
        f"backbone.stage{stage}.{part}": f"down{stage}.conv{number}"
        for stage in range(2, 6)
        for number, part in enumerate(STAGE_PARTS, start=1)
    },
}
_TX_NECK = [
    name
    for name in neck_and_head()
    if name.startswith("neck.") and not name.startswith(("neck.down", "neck.b"))
]
_TX_HEAD = [name for name in neck_and_head() if name not in _TX_NECK]
_TX_PLACES |= {name: f"neck.conv{number}" for number, name in enumerate(_TX_NECK, start=1)}
_TX_PLACES |= {name: f"head.conv{number}" for number, name in enumerate(_TX_HEAD, start=1)}


def _tx_block(stage: int, block: int, conv: int) -> str | None:
    if stage == 1:
        return f"down1.conv{4 + conv}" if block == 0 else None
    return f"down{stage}.resblock.module_list.{block}.{conv - 1}"


TIANXIAOMO = Scheme(
    name="tianxiaomo",
    description="Tianxiaomo's pytorch-YOLOv4",
    suffixes=Suffixes(
        ".conv.0.weight",
        *(f".conv.1{part}" for part in TORCH_NORM),
        ".conv.0.weight",
        ".conv.0.bias",
    ),
    place=lookup(plain(_TX_PLACES), _tx_block),
    bn_eps=1e-5,
    preprocessing=Preprocessing("stretch"),
    img_size=608,
    architectures=("yolov4",),
    aliases=(("neek.", "neck."),),  # so misspelt until June 2021
    ignored=_COUNTERS,
)

_DARKNET_IDX = {layer.name: layer.idx for layer in layers_of(ModelConfig(), 80)}
_DARKNET_NUMBER = {name: number for number, name in enumerate(_DARKNET_IDX, start=1)}
# What its other loader makes of a darknet cfg: sections and convolutions counted.
TIANXIAOMO_CFG = replace(
    TIANXIAOMO,
    name="tianxiaomo_cfg",
    suffixes=Suffixes(
        ".conv#.weight", *(f".bn#{part}" for part in TORCH_NORM), ".conv#.weight", ".conv#.bias"
    ),
    place=lambda name: (
        Place(f"models.{_DARKNET_IDX[name]}", number=_DARKNET_NUMBER[name])
        if name in _DARKNET_IDX
        else None
    ),
    aliases=(),
)
WONGKINYIU = Scheme(
    name="wongkinyiu",
    description="WongKinYiu's PyTorch_YOLOv4",
    suffixes=Suffixes(
        ".Conv2d.weight",
        *(f".BatchNorm2d{part}" for part in TORCH_NORM),
        ".Conv2d.weight",
        ".Conv2d.bias",
    ),
    place=lambda name: Place(f"module_list.{_DARKNET_IDX[name]}") if name in _DARKNET_IDX else None,
    bn_eps=1e-4,
    preprocessing=Preprocessing("letterbox"),
    img_size=640,
    architectures=("yolov4", "yolov4-silu"),
    ignored=_COUNTERS,
    variants={"box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)},
)

_DSH_PLACES = {"backbone.stem": "stage1", "backbone.stage5.transition": "conv", "fc": "fc"}
for _stage in range(1, 6):
    _name, _theirs = f"backbone.stage{_stage}", f"stage{_stage + 1}"
    _DSH_PLACES |= {
        f"{_name}.down": f"{_theirs}.{'conv1' if _stage == 1 else 'conv2'}",
        f"{_name}.bypass": f"{_theirs}.split0",
        f"{_name}.main_in": f"{_theirs}.split1",
        f"{_name}.main_out": f"{_theirs}.{'conv3' if _stage == 2 else 'conv4'}",
    }
    if _stage > 1:  # a stage begins with the transition of the one before
        _DSH_PLACES[f"backbone.stage{_stage - 1}.transition"] = f"{_theirs}.conv1"


def _dsh_block(stage: int, block: int, conv: int) -> str | None:
    if stage == 1:
        return f"stage2.conv{1 + conv}" if block == 0 else None
    if stage == 2:
        return f"stage3.block{block + 1}.features.{conv - 1}"
    return f"stage{stage + 1}.blocks.{block}.features.{conv - 1}"


_TRANSITIONS = tuple(f"backbone.stage{stage}.transition" for stage in range(1, 6))
DEEPSPARK = Scheme(
    name="deepspark",
    description="DeepSpark's CSPDarknet53",
    suffixes=Suffixes(".layers.0.weight", *(f".layers.1{part}" for part in TORCH_NORM), "", ""),
    place=lookup(plain(_DSH_PLACES, _TRANSITIONS), _dsh_block),
    bn_eps=1e-5,
    preprocessing=_IMAGENET_CROP,
    img_size=224,
    architectures=("cspdarknet53",),
    ignored=_COUNTERS,
)

_TIMM_PLACES = {"backbone.stem": Place("stem.conv1"), "fc": Place("head.fc")}
for _stage in range(1, 6):
    _name, _theirs = f"backbone.stage{_stage}", f"stages.{_stage - 1}"
    _TIMM_PLACES |= {
        f"{_name}.down": Place(f"{_theirs}.conv_down"),
        f"{_name}.bypass": Place(f"{_theirs}.conv_exp", rows="first"),
        f"{_name}.main_in": Place(f"{_theirs}.conv_exp", rows="second"),
        f"{_name}.main_out": Place(f"{_theirs}.conv_transition_b"),
        f"{_name}.transition": Place(f"{_theirs}.conv_transition", swapped=True),
    }
TIMM = Scheme(
    name="timm",
    description="timm's cspdarknet53",
    suffixes=Suffixes(".conv.weight", *(f".bn{part}" for part in TORCH_NORM), "", ""),
    place=lookup(
        _TIMM_PLACES, lambda stage, block, conv: f"stages.{stage - 1}.blocks.{block}.conv{conv}"
    ),
    bn_eps=1e-5,
    preprocessing=Preprocessing(
        "crop", 114, "rgb", IMAGENET_MEAN, IMAGENET_STD, crop_fraction=0.887
    ),
    img_size=256,
    architectures=("cspdarknet53",),
    ignored=_COUNTERS,
    variants={"backbone_activation": "leaky001"},
)

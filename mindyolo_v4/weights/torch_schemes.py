"""Names of PyTorch projects: Tianxiaomo and WongKinYiu; DeepSpark and timm (classifiers)."""

from dataclasses import replace

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.weights.schemes import IMAGENET, TORCH_NORM, Scheme, Slot, Suffixes, lookup, plain
from mindyolo_v4.weights.topology import layers_of

_COUNTERS = r"\.num_batches_tracked$|^n_averaged$"
_CROP = Preprocessing("crop", 114, "rgb", *IMAGENET, crop_fraction=224 / 256)

# Section in darknet's cfg, and number among its convolutions, of every layer of YOLOv4.
_SECTIONS = {layer.name: layer.idx for layer in layers_of(ModelConfig(), 80)}
_NUMBERS = {name: number for number, name in enumerate(_SECTIONS, start=1)}

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
    if stage == 1:
        return f"down1.conv{4 + conv}" if block == 0 else None
    return f"down{stage}.resblock.module_list.{block}.{conv - 1}"


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


def _cfg_slot(name: str) -> Slot | None:
    """Return the slot in Tianxiaomo's other loader, which counts sections and convolutions."""
    if name not in _SECTIONS:
        return None
    return Slot(f"models.{_SECTIONS[name]}", number=_NUMBERS[name])


TIANXIAOMO_CFG = replace(
    TIANXIAOMO,
    name="tianxiaomo_cfg",
    suffixes=Suffixes(".conv#.weight", ".bn#", TORCH_NORM, ".conv#.weight", ".conv#.bias"),
    slot=_cfg_slot,
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
SCHEMES = {
    scheme.name: scheme for scheme in (TIANXIAOMO, TIANXIAOMO_CFG, WONGKINYIU, DEEPSPARK, TIMM)
}

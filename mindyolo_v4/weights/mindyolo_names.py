"""Names of mindyolo's YOLOv4 (v0.5.0 and later): `model.model.N`, N counting its YAML's rows."""

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.weights.names import lookup
from mindyolo_v4.weights.schemes import MINDSPORE_NORM, Place, Scheme, Suffixes

# Rows of a stage: (down, main_in, block list, main_out, bypass, transition).
_STAGE_ROWS = {
    1: (1, 2, 3, 4, 5, 7),
    2: (8, 9, 10, 11, 12, 14),
    3: (15, 16, 17, 18, 19, 21),
    4: (22, 23, 24, 25, 26, 28),
    5: (29, 30, 31, 32, 33, 35),
}
_PARTS = ("down", "main_in", "blocks", "main_out", "bypass", "transition")
_ROWS = {"backbone.stem": "0"} | {
    f"backbone.stage{stage}.{part}": str(row)
    for stage, rows in _STAGE_ROWS.items()
    for part, row in zip(_PARTS, rows, strict=True)
}
_NECK_ROWS = {
    **{f"neck.pre_spp.{number}": row for number, row in enumerate(("36.conv1", "36.conv2", "37"))},
    **{f"neck.post_spp.{number}": str(42 + number) for number in range(3)},
    "neck.reduce5": "45",
    "neck.lateral4": "47",
    "neck.reduce4": "51",
    "neck.lateral3": "53",
    "neck.down3": "58",
    "neck.down4": "63",
    **{
        f"neck.{part}.{number}": f"{row}.{number // 2}.conv{number % 2 + 1}"
        for part, row in (("topdown4", 49), ("topdown3", 55), ("bottomup4", 60), ("bottomup5", 65))
        for number in range(4)
    },
    "neck.topdown4.4": "50",
    "neck.topdown3.4": "56",
    "head.expand3": "57",
    "neck.bottomup4.4": "61",
    "head.expand4": "62",
    # The last row holds three pairs: its sixth convolution is the one before the prediction.
    "neck.bottomup5.4": "65.2.conv1",
    "head.expand5": "65.2.conv2",
    **{f"head.predict{level}": f"66.m.{5 - level}" for level in (3, 4, 5)},
}
_SWAPPED = ("neck.topdown4.0", "neck.topdown3.0")  # mindyolo joins [upsampled, lateral]
_MODEL = "model.model."


def _block(stage: int, block: int, conv: int) -> str | None:
    # A repeated block has its repeat index in the name, the single one of the first stage has not.
    row = _STAGE_ROWS[stage][2]
    if stage == 1:
        return f"{_MODEL}{row}.conv{conv}" if block == 0 else None
    return f"{_MODEL}{row}.{block}.conv{conv}"


SCHEME = Scheme(
    name="mindyolo",
    description="mindyolo's YOLOv4",
    suffixes=Suffixes(
        ".conv.weight", *(f".bn{part}" for part in MINDSPORE_NORM), ".weight", ".bias"
    ),
    place=lookup(
        {
            name: Place(
                _MODEL + row, swapped=name in _SWAPPED, kernel=3 if name == "neck.reduce4" else None
            )
            for name, row in (_ROWS | _NECK_ROWS).items()
        },
        _block,
    ),
    bn_eps=1e-3,
    preprocessing=Preprocessing("letterbox"),
    img_size=608,
    architectures=("yolov4", "yolov4-silu"),
    leading=r"ema\.|ema_model\.|network\.",
    ignored=r"^(moments?|momentum|accum|stat|global_step|learning_rate|epoch_num|step_num|scale_sense|updates)\b"
    r"|^ema\.|^model\.model\.66\.(anchors|anchor_grid|stride)",
)

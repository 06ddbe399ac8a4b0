"""Our networks as the sections of darknet's cfg files, each convolution with its name in our code.

The sections give the order of the values in a `.weights` file, the `.cfg` that belongs to it, and
name and shape of every parameter, without building the network.
"""

from collections.abc import Callable

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import scale_blocks, scale_channels
from mindyolo_v4.models.csp_panet import NECK_PAIRS
from mindyolo_v4.models.cspdarknet53 import STEM_CHANNELS, Stage, stages_of
from mindyolo_v4.models.sections import Layer, Section, Walk, number_text


def sections_of(model: ModelConfig, classes: int) -> list[Section]:
    """Return the network's cfg sections, `[net]` left out."""
    walk = Walk(model)
    append = {
        "cspdarknet53": _classifier,
        "yolov4-csp": _scaled,
        "yolov4x-mish": _scaled,
        "yolov4-tiny": _tiny,
        "yolov4-tiny-3l": _tiny,
    }.get(model.architecture, _yolov4)
    append(walk, classes)
    return walk.sections


def layers_of(model: ModelConfig, classes: int) -> tuple[Layer, ...]:
    """Return the network's layers that have parameters, in the order of a `.weights` file."""
    return tuple(section.layer for section in sections_of(model, classes) if section.layer)


def floats_of(layers: tuple[Layer, ...]) -> int:
    """Return the number of values that a `.weights` file stores for layers."""
    return sum(layer.floats for layer in layers)


def parameter_shapes(model: ModelConfig, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of our network by name."""
    layers = layers_of(model, classes)
    return {name: shape for layer in layers for name, shape in layer.shapes().items()}


def _backbone(walk: Walk) -> tuple[int, int, int]:
    """Append CSPDarknet53; return the idx of its maps of stride 8, 16 and 32."""
    stem = scale_channels(STEM_CHANNELS, walk.model.width)
    walk.conv("backbone.stem", stem, 3, walk.model.activations[0])
    ends = []
    for number, stage in enumerate(stages_of(walk.model.architecture), start=1):
        ends.append(_stage(walk, f"backbone.stage{number}", stage))
    return ends[2], ends[3], ends[4]


def _stage(walk: Walk, name: str, stage: Stage) -> int:
    act = walk.model.activations[0]
    channels = walk.scaled(stage.channels)
    hidden = walk.scaled(stage.hidden)
    down = walk.conv(f"{name}.down", channels, 3, act, stride=2)
    if stage.branch is None:
        return _blocks(walk, name, stage, hidden, channels)
    branch = walk.scaled(stage.branch)
    bypass = walk.conv(f"{name}.bypass", branch, 1, act)
    walk.route(down)
    walk.conv(f"{name}.main_in", branch, 1, act)
    _blocks(walk, name, stage, hidden, branch)
    main = walk.conv(f"{name}.main_out", branch, 1, act)
    walk.route(main, bypass)
    return walk.conv(f"{name}.transition", channels, 1, act)


def _blocks(walk: Walk, name: str, stage: Stage, hidden: int, channels: int) -> int:
    act = walk.model.activations[0]
    for block in range(scale_blocks(stage.blocks, walk.model.depth)):
        start = walk.last
        walk.conv(f"{name}.blocks.{block}.conv1", hidden, 1, act)
        walk.conv(f"{name}.blocks.{block}.conv2", channels, 3, act)
        walk.shortcut(start)
    return walk.last


def _classifier(walk: Walk, classes: int) -> None:
    _backbone(walk)
    walk.add("avgpool", {}, walk.channels(walk.last))
    walk.conv("fc", classes, 1, "linear", kind="dense")
    walk.add("softmax", {"groups": "1"}, classes)


def _squeeze_expand(walk: Walk, name: str, narrow: int, count: int, act: str) -> int:
    for number in range(count):
        filters, kernel = (narrow, 1) if number % 2 == 0 else (2 * narrow, 3)
        walk.conv(f"{name}.{number}", walk.scaled(filters), kernel, act)
    return walk.last


def _head(walk: Walk, level: int, filters: int, classes: int, act: str) -> int:
    """Append what predicts one map; return the idx of the convolution before the prediction."""
    anchors = walk.model.anchor_set
    output = next(output for output in anchors.levels if output.stride == 2**level)
    expand = walk.conv(f"head.expand{level}", walk.scaled(filters), 3, act)
    # With (2 sigma)^2 sizes, darknet's `new_coords`, the convolution itself ends in the logistic.
    is_square = walk.model.decode == "square"
    channels = len(output.anchor_ids) * (5 + classes)
    end = "logistic" if is_square else "linear"
    walk.conv(f"head.predict{level}", channels, 1, end, kind="biased")
    options = {
        "mask": ",".join(str(number) for number in output.anchor_ids),
        "anchors": ", ".join(
            f"{number_text(w)},{number_text(h)}" for w, h in anchors.anchors_wh_px
        ),
        "classes": str(classes),
        "num": str(len(anchors.anchors_wh_px)),
        "scale_x_y": number_text(output.scale_x_y),
    }
    square = {"new_coords": "1"} if is_square else {}
    walk.add("yolo", square | options, 0)
    return expand


def _pools(walk: Walk) -> int:
    """Append the pools of 5, 9 and 13 of the last map and their join with it."""
    source = walk.last
    pools = []
    for size in (5, 9, 13):
        pools.append(walk.maxpool(size, 1))
        walk.route(*(source,) if size < 13 else (*reversed(pools), source))
    return walk.last


def _yolov4(walk: Walk, classes: int) -> None:
    map8, map16, _ = _backbone(walk)
    act = walk.model.activations[1]
    _squeeze_expand(walk, "neck.pre_spp", 512, 3, act)
    _pools(walk)
    top5 = _squeeze_expand(walk, "neck.post_spp", 512, 3, act)
    kernels = (1, walk.model.topdown_kernel)
    _two_way_pyramid(walk, (map8, map16, top5), classes, kernels, _five)


def _scaled(walk: Walk, classes: int) -> None:
    map8, map16, map32 = _backbone(walk)
    act = walk.model.activations[1]
    c512 = walk.scaled(512)
    bypass = walk.conv("neck.spp.bypass", c512, 1, act)
    walk.route(map32)
    for number, kernel in enumerate((1, 3, 1)):
        walk.conv(f"neck.spp.before.{number}", c512, kernel, act)
    _pools(walk)
    main = _conv_pairs(walk, "neck.spp.after", c512, NECK_PAIRS[walk.model.architecture] - 1)
    walk.route(main, bypass)
    top5 = walk.conv("neck.spp.transition", c512, 1, act)
    _two_way_pyramid(walk, (map8, map16, top5), classes, (1, 1), _csp_block)


def _two_way_pyramid(
    walk: Walk,
    maps: tuple[int, int, int],
    classes: int,
    kernels: tuple[int, int],
    mix: Callable[[Walk, str, int], int],
) -> None:
    """Append the neck's way down and up and the heads.

    Args:
        maps: idx of the maps of stride 8 and 16 and of the pooled one of stride 32.
        kernels: of the two top-down reductions.
        mix: appends the block that mixes two maps, by name and channels; returns its idx.
    """
    act = walk.model.activations[1]
    map8, map16, top5 = maps
    tops = []
    for level, source, kernel in ((4, map16, kernels[0]), (3, map8, kernels[1])):
        narrow = 16 * 2**level
        walk.conv(f"neck.reduce{level + 1}", walk.scaled(narrow), kernel, act)
        upsampled = walk.upsample()
        walk.route(source)
        lateral = walk.conv(f"neck.lateral{level}", walk.scaled(narrow), 1, act)
        walk.route(lateral, upsampled)
        tops.append(mix(walk, f"neck.topdown{level}", narrow))
    top4, out = tops

    _head(walk, 3, 256, classes, act)
    for level, joined in ((4, top4), (5, top5)):
        narrow = 16 * 2**level
        walk.route(out)
        down = walk.conv(f"neck.down{level - 1}", walk.scaled(narrow), 3, act, stride=2)
        walk.route(down, joined)
        out = mix(walk, f"neck.bottomup{level}", narrow)
        _head(walk, level, 2 * narrow, classes, act)


def _five(walk: Walk, name: str, narrow: int) -> int:
    return _squeeze_expand(walk, name, narrow, 5, walk.model.activations[1])


def _csp_block(walk: Walk, name: str, channels: int) -> int:
    act = walk.model.activations[1]
    scaled = walk.scaled(channels)
    entry = walk.conv(f"{name}.entry", scaled, 1, act)
    bypass = walk.conv(f"{name}.bypass", scaled, 1, act)
    walk.route(entry)
    main = _conv_pairs(walk, f"{name}.main", scaled, NECK_PAIRS[walk.model.architecture])
    walk.route(main, bypass)
    return walk.conv(f"{name}.transition", scaled, 1, act)


def _conv_pairs(walk: Walk, name: str, channels: int, pairs: int) -> int:
    for number in range(2 * pairs):
        walk.conv(f"{name}.{number}", channels, 3 if number % 2 else 1, walk.model.activations[1])
    return walk.last


def _tiny(walk: Walk, classes: int) -> None:
    backbone_act, act = walk.model.activations
    walk.conv("backbone.stem0", walk.scaled(32), 3, backbone_act, stride=2)
    walk.conv("backbone.stem1", walk.scaled(64), 3, backbone_act, stride=2)
    inner = []
    for number, channels in enumerate((64, 128, 256), start=1):
        name = f"backbone.block{number}"
        wide = walk.scaled(channels)
        entry = walk.conv(f"{name}.entry", wide, 3, backbone_act)
        walk.route(entry, half=True)
        part1 = walk.conv(f"{name}.part1", wide // 2, 3, backbone_act)
        part2 = walk.conv(f"{name}.part2", wide // 2, 3, backbone_act)
        walk.route(part2, part1)
        inner.append(walk.conv(f"{name}.merge", wide, 1, backbone_act))
        walk.route(entry, inner[-1])
        walk.maxpool(2, 2)
    walk.conv("backbone.final", walk.scaled(512), 3, backbone_act)
    reduced = walk.conv("neck.reduce", walk.scaled(256), 1, act)
    _head(walk, 5, 512, classes, act)

    walk.route(reduced)
    walk.conv("neck.lateral", walk.scaled(128), 1, act)
    upsampled = walk.upsample()
    walk.route(upsampled, inner[2])
    expand4 = _head(walk, 4, 256, classes, act)
    if walk.model.architecture == "yolov4-tiny":
        return
    walk.route(expand4)
    walk.conv("head.lateral3", walk.scaled(64), 1, act)
    upsampled = walk.upsample()
    walk.route(upsampled, inner[1])
    _head(walk, 3, 128, classes, act)

"""darknet's .weights and .conv.N files: python -m convert.darknet SRC DST

A `.cfg` of the same stem beside SRC (net.cfg of net.weights and of net.conv.N) is read too: classes, width, depth,
anchors, input size. Without one the released network is assumed and the number of classes follows from the length.
DST gets a `.cfg` beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.command import Request, check_complete, convert
from mindyolo_v4.weights.darknet_cfg import CfgNetwork, read_cfg, write_cfg
from mindyolo_v4.weights.darknet_file import Header, WeightsFile, open_weights, write_weights
from mindyolo_v4.weights.files import Converted, Own, check_finite, note, write_whole
from mindyolo_v4.weights.mapping import shift_epsilon
from mindyolo_v4.weights.topology import Layer, layers_of

BN_EPS = 1e-5
MOST_CLASSES = {"yolov4": 1000, "yolov4-silu": 1000, "yolov4-tiny": 1000, "cspdarknet53": 22000}
INPUT = {  # as the released cfg files have it
    "yolov4": (Preprocessing("stretch"), 608),
    "yolov4-silu": (Preprocessing("stretch"), 608),
    "yolov4-tiny": (Preprocessing("stretch"), 416),
    "cspdarknet53": (Preprocessing("crop"), 256),
}


def to_ours(request: Request) -> Converted:
    """Convert a .weights file, whole or (where name or `--partial` says so) its first sections."""
    file = open_weights(request.source)
    section = request.partial if request.partial is not None else file.section_in_name
    cfg = read_cfg(file.cfg) if file.cfg.is_file() else None
    if section is not None:
        network, layers = _partial_network(request, file, section, cfg)
    else:
        network = _whole_network(request, file, cfg)
        layers = layers_of(network.model, network.classes)
    tensors = file.read(layers)
    check_finite(request.source, tensors)
    _check_variances(request.source, tensors)
    origin = {"header": file.header.numbers, "header_bytes": file.header.size}
    notes = [] if cfg is None else [f"read the network from {file.cfg}"]
    if section is not None:
        origin["partial"] = section
        notes.append(
            f"{len(layers)} layers of sections 0 to {section - 1}; the others keep their starting values"
        )
    description = "darknet's " + network.model.architecture
    return Converted(
        tensors, network.model, network.classes, network.preprocessing, network.img_size, "darknet", description,
        origin, tuple(notes),
    )  # fmt: skip


def to_theirs(request: Request, own: Own) -> Sequence[Path]:
    """Write a .weights file and the .cfg that it belongs to.

    Raises:
        UserError: darknet cannot compute what the checkpoint's network does; the key is named.
    """
    check_complete(own)
    if request.target.suffix != ".weights":
        raise UserError(
            request.target, "a darknet file must end in .weights", request.target.suffix, ".weights"
        )
    card, model = own.card, own.card.model
    if model.stride2_padding != "symmetric":
        raise UserError(
            own.path, "darknet has no such padding", "model.stride2_padding: same", "symmetric"
        )
    if "leaky001" in model.activations:
        raise UserError(own.path, "darknet has no leaky ReLU of slope 0.01", model.activations)
    neutral = replace(
        Preprocessing(),
        resize=card.preprocessing.resize,
        crop_fraction=card.preprocessing.crop_fraction,
    )
    if (card.preprocessing.mean, card.preprocessing.std) != (neutral.mean, neutral.std):
        note(f"darknet feeds RGB / 255; {own.path} was trained with mean {card.preprocessing.mean} and std "
             f"{card.preprocessing.std}: normalise its input yourself")  # fmt: skip
    tensors = shift_epsilon(own.tensors, model.bn_eps, BN_EPS)
    layers = layers_of(model, len(card.class_names))
    text = write_cfg(
        model, len(card.class_names), card.img_size, card.preprocessing.resize == "letterbox"
    )
    header = Header.of_card(card)
    cfg = request.target.with_suffix(".cfg")
    if cfg.exists() and cfg.read_text(encoding="utf-8", errors="replace") != text:
        raise UserError(
            cfg, "is there already and says something else: move it away, or write elsewhere"
        )
    write_whole({
        cfg: lambda path: path.write_text(text, encoding="utf-8"),
        request.target: lambda path: write_weights(path, header, layers, tensors),
    })  # fmt: skip
    return (request.target, cfg)


def released(architecture: str, classes: int) -> CfgNetwork:
    """Return the network of a released cfg with another number of classes."""
    preprocessing, img_size = INPUT[architecture]
    return CfgNetwork(ModelConfig(architecture, bn_eps=BN_EPS), classes, img_size, preprocessing)


def classes_of(architecture: str, floats: int) -> int | None:
    """Return the number of classes with which the released network has so many values, None where none has."""
    one, two = (
        sum(layer.floats for layer in layers_of(ModelConfig(architecture), count))
        for count in (1, 2)
    )
    more, rest = divmod(floats - one, two - one)
    return 1 + more if rest == 0 and 0 <= more < MOST_CLASSES[architecture] else None


def _whole_network(request: Request, file: WeightsFile, cfg: CfgNetwork | None) -> CfgNetwork:
    if cfg is not None:
        asked = request.architecture
        if asked is not None and asked != cfg.model.architecture:
            raise UserError(
                request.source,
                "its cfg describes another architecture",
                cfg.model.architecture,
                asked,
            )
        network = cfg
    else:
        candidates = (
            (request.architecture,)
            if request.architecture
            else ("yolov4", "yolov4-tiny", "cspdarknet53")
        )
        fitting = [
            (name, count)
            for name in candidates
            if (count := classes_of(name, file.floats)) is not None
        ]
        if not fitting:
            raise file.misfit(_nearest(request, candidates), request.names)
        network = released(*fitting[0])
    if request.names is not None and len(request.names) != network.classes:
        raise file.misfit(replace(network, classes=len(request.names)), request.names)
    if not file.has_length_of(layers_of(network.model, network.classes)):
        raise file.misfit(network, request.names)
    return network


def _nearest(request: Request, candidates: Sequence[str]) -> CfgNetwork:
    """Return the network that a file which fits none was most likely meant to be."""
    classes = len(request.names) if request.names else None
    guesses = [
        released(name, classes or (1000 if name == "cspdarknet53" else 80)) for name in candidates
    ]
    size = (request.source.stat().st_size - 20) // 4
    longer = [
        g for g in guesses if sum(layer.floats for layer in layers_of(g.model, g.classes)) >= size
    ]
    return min(
        longer or guesses[:1],
        key=lambda g: sum(layer.floats for layer in layers_of(g.model, g.classes)),
    )


def _partial_network(
    request: Request, file: WeightsFile, section: int, cfg: CfgNetwork | None
) -> tuple[CfgNetwork, tuple[Layer, ...]]:
    """Return the network whose sections below `section` fill the file, and their layers."""
    if cfg is not None:
        networks = [cfg]
    else:
        names = (
            (request.architecture,)
            if request.architecture
            else ("cspdarknet53", "yolov4", "yolov4-tiny")
        )
        networks = [released(name, 1000 if name == "cspdarknet53" else 80) for name in names]
    expected = []
    for network in networks:
        layers = tuple(
            layer for layer in layers_of(network.model, network.classes) if layer.idx < section
        )
        floats = sum(layer.floats for layer in layers)
        if file.has_length_of(layers) and layers:
            has_head = any(layer.kind != "norm" for layer in layers)
            return (network if has_head else replace(network, classes=0)), layers
        expected.append(f"{file.header.size + 4 * floats} for {network.model.architecture}")
    problem = f"its length does not fit the sections below {section}"
    raise UserError(request.source, problem, f"{file.bytes} bytes", f"{', '.join(expected)}")


def _check_variances(path: Path, tensors: dict) -> None:
    for name, value in tensors.items():
        if name.endswith("moving_variance") and value.min() < 0:
            problem = f"a running variance ({name}) is negative: the file is of another network or class count"
            raise UserError(path, problem, float(value.min()))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "darknet", "darknet .weights and .conv.N files.", to_ours, to_theirs)

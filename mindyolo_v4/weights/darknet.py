"""darknet's .weights and .conv.N files: python -m convert.darknet SRC DST

The `.cfg` of SRC says classes, width, depth, anchors, masks and input size: `--cfg FILE`, else that
of the same stem beside it (obj.cfg of obj.weights, obj_best.weights, obj_1000.weights and
obj.conv.N), else the only one there whose network is as long as SRC. Without one the released
network is assumed, and the length tells the number of classes. DST gets a `.cfg` beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.topology import DARKNET_SLOPE, Layer, floats_of, layers_of
from mindyolo_v4.weights.cfg_sections import SUPPORTED, other_weights
from mindyolo_v4.weights.command import Request, check_complete, convert, require_suffix
from mindyolo_v4.weights.darknet_cfg import CfgNetwork, read_cfg, write_cfg
from mindyolo_v4.weights.darknet_file import Header, WeightsFile, open_weights, write_weights
from mindyolo_v4.weights.files import Converted, Own, check_finite, note, output_file
from mindyolo_v4.weights.mapping import shift_epsilon

BN_EPS = 1e-5
MOST_CLASSES = {"yolov4": 1000, "yolov4-silu": 1000, "yolov4-tiny": 1000, "cspdarknet53": 22000}
INPUT = {  # of the released cfg files
    "yolov4": (Preprocessing("stretch"), 608),
    "yolov4-silu": (Preprocessing("stretch"), 608),
    "yolov4-tiny": (Preprocessing("stretch"), 416),
    "cspdarknet53": (Preprocessing("crop"), 256),
}


def to_ours(request: Request) -> Converted:
    """Convert a .weights file, whole or (where name or `--partial` says so) its first sections."""
    file = open_weights(request.what)
    section = request.partial if request.partial is not None else file.section_in_name
    cfg, where = find_cfg(file, request.cfg, section)
    origin: dict[str, Any] = {"header": file.header.numbers, "header_bytes": file.header.size}
    if section is None:
        network = _whole_network(request, file, cfg, where)
        layers = network.layers
    else:
        network, layers = _partial_network(request, file, section, cfg)
        origin["partial"] = section
    notes = []
    if cfg is not None:
        origin["cfg"] = Path(where).name
        notes.append(f"read the network from {where}")
    elif network.classes:
        origin["assumed"] = assumption(network, where)
        notes.append(f"{origin['assumed']}; --cfg FILE names the right one")
    if section is not None:
        held = f"{len(layers)} layers of sections 0 to {section - 1}"
        notes.append(f"{held}; the others keep their starting values")
    tensors = file.read(layers)
    check_finite(request.source, tensors)
    _check_variances(request.source, tensors)
    return Converted(
        *(tensors, network.model, network.classes, network.preprocessing, network.img_size),
        *("darknet", f"darknet's {network.model.architecture}", origin, tuple(notes)),
        img_height=network.img_height,
    )


def find_cfg(
    file: WeightsFile, given: Path | None = None, section: int | None = None
) -> tuple[CfgNetwork | None, str]:
    """Return the network of a file's cfg, and the cfg's path; or None, and why there is none.

    Args:
        given: the cfg that the user names.
        section: the file holds the sections below this one alone.
    """
    named = given or file.cfg
    if named is not None:
        return read_cfg(named), str(named)
    fitting: dict[CfgNetwork, Path] = {}
    for path in sorted(file.path.parent.glob("*.cfg")):
        try:
            network = read_cfg(path)
        except (UserError, OSError):  # of another network, or of another program
            continue
        if file.layers_below(section, network):
            fitting.setdefault(network, path)
    if len(fitting) == 1:
        ((network, path),) = fitting.items()
        return network, str(path)
    names = ", ".join(path.name for path in fitting.values())
    return None, f"more than one cfg fits ({names})" if fitting else "no cfg was found"


def assumption(network: CfgNetwork, why: str) -> str:
    """Return in words what is assumed of a network whose cfg is missing."""
    what = "anchors, masks, scale_x_y, leaky slope, input size and resize"
    if network.model.task == "classify":
        what = "input size and resize"
    values = f"{network.img_size} px, {network.preprocessing.resize}"
    name = network.model.architecture
    return f"{why}: {what} are assumed to be those of the released {name}.cfg ({values})"


def to_theirs(request: Request, own: Own) -> Sequence[Path]:
    """Write a .weights file and its .cfg.

    Raises:
        UserError: darknet cannot compute what the checkpoint's network does; names the key.
    """
    check_complete(own)
    card = own.card
    model = own.card.model
    target = request.target
    cfg = request.target.with_suffix(".cfg")
    require_suffix(target, ".weights", "a darknet file")
    if model.stride2_padding != "symmetric":
        got = "model.stride2_padding: same"
        raise UserError(own.path, "darknet has no such padding", got, "symmetric")
    slopes = {model.slope_of(name) for name in model.activations if name.startswith("leaky")}
    if slopes - {DARKNET_SLOPE}:
        slope = f"leaky_slope={max(slopes - {DARKNET_SLOPE}):g}"
        note(f"darknet and OpenCV compute leaky ReLU with slope 0.1, and ignore {slope} in {cfg}")
    mean, std = card.preprocessing.mean, card.preprocessing.std
    if (mean, std) != (Preprocessing().mean, Preprocessing().std):
        trained = f"{own.path} was trained with mean {mean} and std {std}"
        note(f"darknet feeds RGB / 255; {trained}: normalise its input yourself")
    classes = len(card.class_names)
    letterbox = card.preprocessing.resize == "letterbox"
    text = write_cfg(model, classes, card.img_size, letterbox, card.img_height)
    if cfg.exists() and cfg.read_text(encoding="utf-8", errors="replace") != text:
        problem = "is there already and says something else: move it away, or write elsewhere"
        raise UserError(cfg, problem)
    tensors = shift_epsilon(own.tensors, model.bn_eps, BN_EPS)
    with output_file(target) as unfinished:
        write_weights(unfinished, Header.of_card(card), layers_of(model, classes), tensors)
        with output_file(cfg) as unfinished_cfg:
            unfinished_cfg.write_text(text, encoding="utf-8")
    return (target, cfg)


def released(architecture: str, classes: int | None = None) -> CfgNetwork:
    """Return the network of a released cfg, perhaps with another number of classes."""
    preprocessing, img_size = INPUT[architecture]
    if classes is None:
        classes = 1000 if architecture == "cspdarknet53" else 80
    model = ModelConfig(architecture, bn_eps=BN_EPS)  # type: ignore[arg-type]
    return CfgNetwork(model, classes, img_size, preprocessing)


def classes_of(architecture: str, floats: int) -> int | None:
    """Return the number of classes with which the released network has so many values."""
    one, two = (floats_of(released(architecture, count).layers) for count in (1, 2))
    more, rest = divmod(floats - one, two - one)
    return 1 + more if rest == 0 and 0 <= more < MOST_CLASSES[architecture] else None


def _whole_network(
    request: Request, file: WeightsFile, cfg: CfgNetwork | None, where: str
) -> CfgNetwork:
    asked = request.architecture
    if cfg is not None and asked not in (None, cfg.model.architecture):
        problem = "its cfg describes another architecture"
        raise UserError(request.source, problem, cfg.model.architecture, asked)
    network = cfg or _released_network(request, file, where)
    if request.names is not None and len(request.names) != network.classes:
        raise file.misfit(replace(network, classes=len(request.names)), request.names)
    if not file.has_length_of(network.layers):
        raise file.misfit(network, request.names)
    return network


def _released_network(request: Request, file: WeightsFile, why: str) -> CfgNetwork:
    """Return the released network that is as long as the file. Raises UserError where none is."""
    asked = request.architecture
    candidates = (asked,) if asked else ("yolov4", "yolov4-tiny", "cspdarknet53")
    for name in candidates:
        classes = classes_of(name, file.floats)
        if classes is not None:
            return released(name, classes)
    other = other_weights(file.path.name, file.floats)
    if other is not None:
        raise UserError(file.path, f"holds {other}, which is not supported", None, SUPPORTED)
    named = len(request.names) if request.names else None
    guesses = [released(name, named) for name in candidates]
    sizes = [file.header.size + 4 * floats_of(guess.layers) for guess in guesses]
    problem = (
        f"{why}, and it has the length of no supported network: cut short, or needs --cfg FILE"
    )
    expected = [
        f"{size} for {guess.model.architecture} with {guess.classes} classes"
        for size, guess in zip(sizes, guesses, strict=True)
    ]
    raise UserError(file.path, problem, f"{file.bytes} bytes", ", ".join(expected))


def _partial_network(
    request: Request, file: WeightsFile, section: int, cfg: CfgNetwork | None
) -> tuple[CfgNetwork, tuple[Layer, ...]]:
    """Return the network whose sections below `section` fill the file, and their layers."""
    asked = request.architecture
    names = (asked,) if asked else ("cspdarknet53", "yolov4", "yolov4-tiny")
    networks = [released(name) for name in names] if cfg is None else [cfg]
    expected = []
    for network in networks:
        layers = file.layers_below(section, network)
        if layers:
            has_head = any(layer.kind != "norm" for layer in layers)
            return (network if has_head else replace(network, classes=0)), layers
        below = tuple(layer for layer in network.layers if layer.idx < section)
        size = file.header.size + 4 * floats_of(below)
        expected.append(f"{size} for {network.model.architecture}")
    problem = f"its length does not fit the sections below {section}"
    raise UserError(request.source, problem, f"{file.bytes} bytes", ", ".join(expected))


def _check_variances(path: Path, tensors: Mapping[str, NDArray]) -> None:
    for name, value in tensors.items():
        if name.endswith("moving_variance") and value.min() < 0:
            negative = f"a running variance ({name}) is negative"
            problem = f"{negative}: the file is of another network or class count"
            raise UserError(path, problem, float(value.min()))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "darknet", "darknet .weights and .conv.N files.", to_ours, to_theirs)

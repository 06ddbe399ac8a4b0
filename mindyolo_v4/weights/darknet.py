"""darknet's .weights and .conv.N files: python -m convert.darknet SRC DST

The `.cfg` of SRC says classes, width, depth, anchors, masks and input size: `--cfg FILE`, else that
of the same stem beside it (obj.cfg of obj.weights, obj_best.weights, obj_1000.weights and
obj.conv.N), else the only one there whose network is as long as SRC. Without one the released
network is assumed, and the length tells the number of classes. DST gets a `.cfg` beside it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.sections import DARKNET_SLOPE, Layer
from mindyolo_v4.models.topology import floats_of, layers_of
from mindyolo_v4.weights.cfg_sections import SUPPORTED, other_weights
from mindyolo_v4.weights.command import Request, convert, require_suffix
from mindyolo_v4.weights.darknet_cfg import CfgNetwork, read_cfg, write_cfg
from mindyolo_v4.weights.darknet_file import HEADERS, WeightsFile, open_weights, write_weights
from mindyolo_v4.weights.files import Converted, Own, check_finite, note, output_file
from mindyolo_v4.weights.mapping import shift_epsilon

BN_EPS = 1e-5
INPUT = {  # of the released cfg files
    "cspdarknet53": (Preprocessing("crop"), 256),
    "yolov4": (Preprocessing("stretch"), 608),
    "yolov4-tiny": (Preprocessing("stretch"), 416),
    "yolov4-tiny-3l": (Preprocessing("stretch"), 608),
    "yolov4-csp": (Preprocessing("letterbox"), 512),
    "yolov4x-mish": (Preprocessing("letterbox"), 640),
}


def to_ours(request: Request) -> Converted:
    """Convert a .weights file, whole or (where name or `--partial` says so) its first sections."""
    file = open_weights(request.what)
    section = request.partial if request.partial is not None else file.section_in_name
    cfg, where = find_cfg(file, request.cfg, section)
    network, layers = _fitting_network(request, file, section, cfg, where)
    origin: dict[str, Any] = {"header": file.header, "header_bytes": file.header_bytes}
    notes = []
    if cfg is not None:
        origin["cfg"] = Path(where).name
        notes.append(f"read the network from {where}")
    elif network.classes:
        origin["assumed"] = assumption(network, where)
        notes.append(f"{origin['assumed']}; --cfg FILE names the right one")
    if section is not None:
        origin["partial"] = section
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
        if file.has_length_of(network.layers_below(section)):
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


def to_theirs(target: Path, own: Own) -> Sequence[Path]:
    """Write a .weights file and its .cfg. Raises UserError where darknet has no such network."""
    with unfinished_files(target, own):
        return (target, target.with_suffix(".cfg"))


@contextmanager
def unfinished_files(target: Path, own: Own) -> Iterator[tuple[Path, Path]]:
    """Write a .weights file and its .cfg, and yield their names before the block has ended well.

    Raises:
        UserError: darknet has no such network, or another .cfg is there.
    """
    card = own.card
    model = own.card.model
    cfg = target.with_suffix(".cfg")
    require_suffix(target, ".weights", "a darknet file")
    if model.stride2_padding != "symmetric":
        got = "model.stride2_padding: same"
        raise UserError(own.path, "darknet has no such padding", got, "symmetric")
    slopes = {model.slope_of(name) for name in model.activations if name.startswith("leaky")}
    if slopes - {DARKNET_SLOPE}:
        slope = f"leaky_slope={max(slopes - {DARKNET_SLOPE}):g}"
        note(f"darknet and OpenCV compute leaky ReLU with slope 0.1, and ignore {slope} in {cfg}")
    if model.residual != "plain":
        note(f"OpenCV cannot run {cfg}: it ignores weights_type, and misreads the values behind it")
    mean, std = card.preprocessing.mean, card.preprocessing.std
    if (mean, std) != (Preprocessing().mean, Preprocessing().std):
        trained = f"{own.path} was trained with mean {mean} and std {std}"
        note(f"darknet feeds RGB / 255; {trained}: normalise its input yourself")
    if (fraction := card.preprocessing.crop_fraction) != 1.0:
        own_cut = f"{own.path} was tested with data.crop_fraction {fraction:g}"
        note(f"darknet keeps the whole short side of an image; {own_cut}: cut its images yourself")
    classes = len(card.class_names)
    letterbox = card.preprocessing.resize == "letterbox"
    text = write_cfg(model, classes, card.img_size, letterbox, card.img_height)
    if cfg.exists() and cfg.read_text(encoding="utf-8", errors="replace") != text:
        problem = "exists with other content: move it away, or write elsewhere"
        raise UserError(cfg, problem)
    tensors = shift_epsilon(own.tensors, model.bn_eps, BN_EPS)
    with output_file(target) as unfinished, output_file(cfg) as unfinished_cfg:
        write_weights(unfinished, _header(own), layers_of(model, classes), tensors)
        unfinished_cfg.write_text(text, encoding="utf-8")
        yield unfinished, unfinished_cfg


def released(architecture: str, classes: int | None = None) -> CfgNetwork:
    """Return the network of a released cfg, perhaps with another number of classes."""
    preprocessing, img_size = INPUT[architecture.removesuffix("-silu")]  # released with Mish only
    if classes is None:
        classes = 1000 if architecture == "cspdarknet53" else 80
    model = ModelConfig(architecture, bn_eps=BN_EPS)  # type: ignore[arg-type]
    return CfgNetwork(model, classes, img_size, preprocessing)


def classes_of(architecture: str, floats: int) -> int | None:
    """Return the number of classes with which the released network has so many values."""
    one, two = (floats_of(released(architecture, count).layers) for count in (1, 2))
    more, rest = divmod(floats - one, two - one)
    most = 22000 if architecture == "cspdarknet53" else 1000
    return 1 + more if rest == 0 and 0 <= more < most else None


def _fitting_network(
    request: Request, file: WeightsFile, section: int | None, cfg: CfgNetwork | None, where: str
) -> tuple[CfgNetwork, tuple[Layer, ...]]:
    """Return the network that fills a file, of its cfg or a released one, and the file's layers."""
    asked = request.architecture
    if cfg is not None and asked not in (None, cfg.model.architecture):
        problem = "its cfg describes another architecture"
        raise UserError(request.source, problem, cfg.model.architecture, asked)
    names = (asked,) if asked else tuple(INPUT)
    networks = [cfg] if cfg else [released(name, classes_of(name, file.floats)) for name in names]
    expected = []
    for network in networks:
        layers = network.layers_below(section)
        if file.has_length_of(layers):
            has_head = any(layer.is_output for layer in layers)
            return (network if has_head else replace(network, classes=0)), layers
        size = file.header_bytes + 4 * floats_of(layers)
        expected.append(f"{size} for {network.model.architecture} of {network.classes} classes")
    other = other_weights(file.path.name, file.floats)
    if other is not None and cfg is None:
        raise UserError(file.path, f"holds {other}, which is not supported", None, SUPPORTED)
    problem = "cut short, or of another class count (--cfg FILE, --partial N)"
    if cfg is None:
        problem = f"{where}, and no released network is as long: {problem}"
    elif section is None:
        problem = f"is not as long as the network of {where}: {problem}"
    else:
        problem = f"its length does not fit the sections below {section}"
    raise UserError(file.path, problem, f"{file.bytes} bytes", ", ".join(expected))


def _header(own: Own) -> bytes:
    """Return the header that weights came with, or one for weights trained here."""
    origin = own.card.origin if own.card.source_format == "darknet" else {}
    try:
        form = HEADERS[origin.get("header_bytes", 20)]
        return struct.pack(form, *origin.get("header", (0, 2, 5, 0)))
    except (KeyError, TypeError, struct.error) as error:
        raise UserError(own.path, "its card holds no header of darknet's", str(origin)) from error


def _check_variances(path: Path, tensors: Mapping[str, NDArray]) -> None:
    for name, value in tensors.items():
        if name.endswith("moving_variance") and value.min() < 0:
            problem = f"a running variance ({name}) is negative: the file is of another network"
            raise UserError(path, problem, float(value.min()))


def main(argv: Sequence[str]) -> int:
    """Convert in the direction that the source asks for."""
    return convert(argv, "darknet", "darknet .weights and .conv.N files.", to_ours, to_theirs)

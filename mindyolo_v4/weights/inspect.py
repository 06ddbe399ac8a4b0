"""Says what any weight file is: python -m convert.inspect FILE [--json]"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card, build_card, parse_card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.formats import WITHOUT_CARD, Identity, identify
from mindyolo_v4.checkpoint.index import CARD
from mindyolo_v4.config.command_line import Parser, command_for
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError, printable
from mindyolo_v4.models.sections import Layer
from mindyolo_v4.models.topology import floats_of
from mindyolo_v4.runtime.files import sha256_of
from mindyolo_v4.weights import mindspore_zoo, mindyolo, torch_schemes
from mindyolo_v4.weights.cfg_sections import SUPPORTED, other_weights
from mindyolo_v4.weights.darknet import INPUT, assumption, classes_of, find_cfg, released
from mindyolo_v4.weights.darknet_file import WeightsFile, open_weights
from mindyolo_v4.weights.files import model_tensors, read_mindspore, read_own, read_safetensors
from mindyolo_v4.weights.mapping import bare_tensors, infer_model, missing_tensors
from mindyolo_v4.weights.pytorch import read_torch
from mindyolo_v4.weights.schemes import Scheme

_RUNNING = ("moving_mean", "moving_variance", "running_mean", "running_var", "num_batches_tracked")
_CUT = "cut short"  # in the message of every reader whose file ends too early


def main(argv: Sequence[str]) -> int:
    """Print what a file is."""
    description = "Say what any weight file is."
    program = command_for("convert inspect")
    parser = Parser(program, description)
    parser.add_argument("file", metavar="FILE", help="any file of weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    path = Path(options.file)
    report = inspect(path)
    if options.json:
        print(json.dumps(report))
        return 0
    print(f"{path}: {report['description']}")
    for key, value in report.items():
        if key != "description" and value is not None:
            shown = f"{value:,}" if isinstance(value, int) else printable(str(value), 900)
            print(f"  {key:14} {shown}")
    return 0


def inspect(path: Path) -> dict[str, Any]:
    """Return what a file is; None stands for what it does not tell.

    Keys: format (the command of `convert` that reads it, or the kind of file), architecture,
    classes, parameters (trainable values), sha256, truncated_at (where the file ends too early),
    description, width, depth, command, cfg (of a darknet file), assumed (where it has none).
    """
    what = identify(path)
    report: dict[str, Any] = {
        "format": what.family.module if what.family else what.kind,
        **dict.fromkeys(("architecture", "classes", "parameters")),
        **{"sha256": sha256_of(path), "truncated_at": None, "description": what.description},
        **{"width": None, "depth": None, "command": what.convert_command},
        **{"cfg": None, "assumed": None},
    }
    try:
        return report | _details(what)
    except UserError as error:
        if _CUT not in error.problem:
            raise
        return report | {"truncated_at": str(error).removeprefix(f"{error.subject}: ")}


def _details(what: Identity) -> dict[str, Any]:
    """Return the keys of `inspect` that need more than the file's beginning or index."""
    path = what.path
    kind = what.kind
    if kind == "darknet":
        return _darknet(what)
    if kind == "mindyolo_v4":
        own = read_own(Checkpoint.of(what))
        return _described(own.card, own.tensors)
    if kind == "mindspore" and what.family is not None:
        return _named(path, read_mindspore(what), what)
    if kind == "safetensors" and what.family is None:
        tensors, metadata = read_safetensors(path)
        if CARD not in metadata:
            return {}
        card = build_card(path, parse_card(path, metadata[CARD]))
        return _described(card, model_tensors(tensors))
    if kind in ("pytorch", "safetensors"):
        return _named(path, read_torch(path, kind), what)
    if kind in ("mindspore", "unknown"):
        before = "before the card" if what.description == WITHOUT_CARD else None
        if what.damage is not None:
            raise UserError(path, what.damage, what.description)
        return {"truncated_at": before}
    return {}


def _darknet(what: Identity) -> dict[str, Any]:
    file = open_weights(what)
    try:
        network, where = find_cfg(file)
    except UserError as error:
        if error.expected != SUPPORTED:
            raise
        return {"description": f"{what.description}; its cfg {error.problem}", "command": None}
    told: dict[str, Any] = {"cfg": where}
    if network is None:
        fits = {name: classes_of(name, file.floats) for name in INPUT}
        architecture = next((name for name, classes in fits.items() if classes is not None), None)
        if architecture is None:
            other = other_weights(file.path.name, file.floats)
            if other is None:
                return _darknet_prefix(file)
            description = f"{what.description} of {other}, which is not supported"
            return {"description": description, "command": None}
        network = released(architecture, fits[architecture])
        told = {"assumed": assumption(network, where)}
    is_whole = file.has_length_of(network.layers)
    return (
        _network(network.model, network.classes)
        | told
        | {
            "parameters": sum(_trainable(layer) for layer in network.layers),
            "truncated_at": None if is_whole else _end(file, network.layers),
        }
    )


def _darknet_prefix(file: WeightsFile) -> dict[str, Any]:
    """Describe a file that no whole network fits: the first sections of one, or one cut short."""
    for name in INPUT:
        network = released(name)
        idx, inside = file.cut(network.layers)
        held = tuple(layer for layer in network.layers if layer.idx < idx)
        if not inside and held and file.has_length_of(held):
            count = sum(_trainable(layer) for layer in held)
            cut = f"before section {idx}"
            return _network(network.model, None) | {"parameters": count, "truncated_at": cut}
    return {"truncated_at": _end(file, released("yolov4").layers) + ", if it is yolov4"}


def _end(file: WeightsFile, layers: tuple[Layer, ...]) -> str:
    idx, inside = file.cut(layers)
    whole = file.header_bytes + 4 * floats_of(layers)
    if file.bytes > whole:
        return f"not cut: {file.bytes - whole} bytes too many"
    return f"{'inside' if inside else 'before'} section {idx} ({file.bytes} of {whole} bytes)"


def _trainable(layer: Layer) -> int:
    shapes = layer.shapes().items()
    return sum(int(np.prod(shape)) for name, shape in shapes if "moving_" not in name)


def _network(model: ModelConfig, classes: int | None) -> dict[str, Any]:
    names = {"architecture": model.architecture, "classes": classes}
    return names | {"width": model.width, "depth": model.depth}


def _described(card: Card, tensors: Mapping[str, NDArray]) -> dict[str, Any]:
    section = card.origin.get("partial")
    cut = None if section is None else f"before section {section} (converted so)"
    network = _network(card.model, len(card.class_names) or None)
    told = {"cfg": card.origin.get("cfg"), "assumed": card.origin.get("assumed")}
    return network | told | {"parameters": _count(tensors), "truncated_at": cut}


def _named(path: Path, tensors: dict[str, NDArray], what: Identity) -> dict[str, Any]:
    """Describe a file whose tensors have the names of a known family."""
    if what.family is None:
        return {}
    scheme = _scheme_of(what.family.name, tensors)
    report: dict[str, Any] = {"parameters": _count(bare_tensors(tensors, scheme))}
    try:
        model, classes = infer_model(tensors, scheme, path)
    except UserError as error:
        return report | {"truncated_at": f"not whole: {error.problem}"}
    missing = missing_tensors(tensors, scheme, model, classes)
    cut = f"{len(missing)} tensors are missing, the first {missing[0]}" if missing else None
    return report | _network(model, classes or None) | {"truncated_at": cut}


def _scheme_of(family: str, tensors: Mapping[str, NDArray]) -> Scheme:
    if family == "mindyolo":
        return mindyolo.scheme_of(tensors)
    if family == "mindspore_zoo":
        return mindspore_zoo.scheme_of(tensors)
    return torch_schemes.scheme_of(family, tensors)


def _count(tensors: Mapping[str, NDArray]) -> int:
    return sum(value.size for name, value in tensors.items() if not name.endswith(_RUNNING))

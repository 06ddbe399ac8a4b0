"""Says what any weight file is: python -m convert.inspect FILE [--json]"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card, build_card, parse_card
from mindyolo_v4.checkpoint.formats import (
    WITHOUT_CARD,
    Family,
    convert_command,
    describe,
    family_of,
    identify,
)
from mindyolo_v4.checkpoint.index import CARD
from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights import mindspore_zoo, mindyolo
from mindyolo_v4.weights.darknet import INPUT, classes_of, released
from mindyolo_v4.weights.darknet_cfg import read_cfg
from mindyolo_v4.weights.darknet_file import WeightsFile, open_weights
from mindyolo_v4.weights.files import (
    cut_checkpoint,
    model_tensors,
    read_mindspore,
    read_own,
    read_safetensors,
    sha256_of,
)
from mindyolo_v4.weights.mapping import bare_tensors, infer_model, missing_tensors
from mindyolo_v4.weights.pytorch import SCHEMES, read_torch
from mindyolo_v4.weights.topology import Layer, layers_of

_RUNNING = ("moving_mean", "moving_variance", "running_mean", "running_var", "num_batches_tracked")
_CUT = "cut short"  # how every reader's complaint about an end that comes too early is worded


def main(argv: Sequence[str]) -> int:
    """Print what a file is."""
    parser = Parser(prog="python -m convert.inspect", description=__doc__, allow_abbrev=False)
    parser.add_argument("file", metavar="FILE", help="any file of weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(list(argv))
    path = Path(options.file)
    if not path.is_file():
        raise UserError(path, "no such file")
    found = inspect(path)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{path}: {found['description']}")
    for key, value in found.items():
        if key != "description" and value is not None:
            print(f"  {key:14} {value:,}" if isinstance(value, int) else f"  {key:14} {value}")
    return 0


def inspect(path: Path) -> dict[str, Any]:
    """Return what a file is; None stands for what it does not tell.

    Keys: format (the command of `convert` that reads it, or the kind of file), architecture, classes, parameters
    (trainable values), sha256, truncated_at (where the file ends too early), description, width, depth, command.
    """
    kind, family = identify(path), family_of(path)
    found: dict[str, Any] = {
        "format": family.module if family else kind,
        **dict.fromkeys(("architecture", "classes", "parameters")),
        "sha256": sha256_of(path),
        "truncated_at": None,
        "description": describe(path),
        **dict.fromkeys(("width", "depth")),
        "command": convert_command(path),
    }
    try:
        if kind == "darknet":
            return found | _darknet(path)
        if kind == "mindyolo_v4":
            return found | _own(path)
        if kind == "safetensors" and family is None:
            return found | _safetensors(path)
        if kind in ("pytorch", "safetensors") or family is not None:
            return found | _named(path, kind, family)
        if kind in ("mindspore", "unknown"):
            before = "before the card" if found["description"] == WITHOUT_CARD else None
            return found | {"truncated_at": cut_checkpoint(path) or before}
        return found
    except UserError as error:
        if _CUT not in error.problem:
            raise
        return found | {"truncated_at": str(error).removeprefix(f"{path}: ")}


def _darknet(path: Path) -> dict[str, Any]:
    file = open_weights(path)
    if file.cfg.is_file():
        network = read_cfg(file.cfg)
    else:
        fits = {name: classes_of(name, file.floats) for name in INPUT if name != "yolov4-silu"}
        architecture = next((name for name, classes in fits.items() if classes is not None), None)
        if architecture is None:
            return _prefix(file)
        network = released(architecture, fits[architecture])
    layers = layers_of(network.model, network.classes)
    found = _network(network.model, network.classes) | {
        "parameters": sum(_trainable(layer) for layer in layers)
    }
    if not file.has_length_of(layers):
        found["truncated_at"] = _place(file, layers)
    return found


def _prefix(file: WeightsFile) -> dict[str, Any]:
    """Describe a file that no whole network fits: the first sections of one, or one cut short."""
    for name in ("cspdarknet53", "yolov4", "yolov4-tiny"):
        network = released(name, 1000 if name == "cspdarknet53" else 80)
        layers = layers_of(network.model, network.classes)
        idx, inside = file.cut(layers)
        held = tuple(layer for layer in layers if layer.idx < idx)
        if not inside and held and file.has_length_of(held):
            count = sum(_trainable(layer) for layer in held)
            return _network(network.model, None) | {
                "parameters": count,
                "truncated_at": f"before section {idx}",
            }
    network = released("yolov4", 80)
    return {"truncated_at": _place(file, layers_of(network.model, 80)) + ", if it is yolov4"}


def _place(file: WeightsFile, layers: tuple[Layer, ...]) -> str:
    idx, inside = file.cut(layers)
    whole = file.header.size + 4 * sum(layer.floats for layer in layers)
    if file.bytes > whole:
        return f"not cut: {file.bytes - whole} bytes too many"
    return f"{'inside' if inside else 'before'} section {idx} ({file.bytes} of {whole} bytes)"


def _trainable(layer: Layer) -> int:
    return sum(
        int(np.prod(shape)) for name, shape in layer.shapes().items() if "moving_" not in name
    )


def _network(model: ModelConfig, classes: int | None) -> dict[str, Any]:
    return {
        "architecture": model.architecture,
        "classes": classes,
        "width": model.width,
        "depth": model.depth,
    }


def _own(path: Path) -> dict[str, Any]:
    own = read_own(path)
    return _described(own.card, own.tensors)


def _safetensors(path: Path) -> dict[str, Any]:
    """Describe a file of ours in that format; of nobody's that we know, there is nothing to tell."""
    tensors, metadata = read_safetensors(path)
    if CARD not in metadata:
        return {}
    return _described(build_card(path, parse_card(path, metadata[CARD])), model_tensors(tensors))


def _described(card: Card, tensors: dict[str, NDArray]) -> dict[str, Any]:
    cut = (
        f"before section {card.origin['partial']} (converted so)"
        if "partial" in card.origin
        else None
    )
    return _network(card.model, len(card.class_names) or None) | {
        "parameters": _count(tensors),
        "truncated_at": cut,
    }


def _named(path: Path, kind: str, family: Family | None) -> dict[str, Any]:
    tensors = read_mindspore(path) if kind == "mindspore" else read_torch(path)
    if family is None:
        return {}
    choose = {"mindyolo": mindyolo.scheme_of, "mindspore_zoo": mindspore_zoo.scheme_of}.get(
        family.name
    )
    scheme = choose(tensors) if choose else SCHEMES[family.name]
    held = {"parameters": _count(bare_tensors(tensors, scheme))}
    try:
        model, classes = infer_model(tensors, scheme, path)
    except UserError as error:
        return held | {"truncated_at": f"not whole: {error.problem}"}
    missing = missing_tensors(tensors, scheme, model, classes)
    cut = f"{len(missing)} tensors are missing, the first {missing[0]}" if missing else None
    return held | _network(model, classes or None) | {"truncated_at": cut}


def _count(tensors: dict[str, NDArray]) -> int:
    return sum(value.size for name, value in tensors.items() if not name.endswith(_RUNNING))

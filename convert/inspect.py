"""Says what any weight file is: python -m convert.inspect FILE [--json]"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.darknet import INPUT, classes_of, released
from convert.darknet_cfg import read_cfg
from convert.darknet_file import WeightsFile, open_weights
from convert.files import read_mindspore, read_own, sha256_of
from convert.mapping import infer_model
from convert.mindyolo_names import SCHEME as MINDYOLO
from convert.pytorch import SCHEMES, read_torch
from convert.topology import layers_of
from convert.zoo_names import CLASSIFIER, DETECTOR
from mindyolo_v4.command_line import Parser, run_command
from mindyolo_v4.formats import FormatError, convert_command, describe, family_of, identify, read_index
from mindyolo_v4.schema.errors import UserError

_RUNNING = ("moving_mean", "moving_variance", "running_mean", "running_var", "num_batches_tracked")
_ASIDE = ("ema.", "optimizer.", "scaler.", "moments", "momentum", "accum", "stat")


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
    if kind == "darknet":
        return found | _darknet(path)
    if kind == "mindyolo_v4":
        return found | _own(path)
    if family is not None:
        return found | _named(path, family.name)
    if kind in ("mindspore", "unknown"):
        found["truncated_at"] = _cut(path)
    return found


def _darknet(path: Path) -> dict[str, Any]:
    file = open_weights(path)
    cfg = path.with_suffix(".cfg")
    if cfg.is_file():
        network = read_cfg(cfg)
    else:
        fits = {name: classes_of(name, file.floats) for name in INPUT if name != "yolov4-silu"}
        architecture = next((name for name, classes in fits.items() if classes is not None), None)
        if architecture is None:
            return _prefix(file)
        network = released(architecture, fits[architecture])
    layers = layers_of(network.model, network.classes)
    found = _network(network.model, network.classes) | {"parameters": sum(_trainable(layer) for layer in layers)}
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
            return _network(network.model, None) | {"parameters": count, "truncated_at": f"before section {idx}"}
    network = released("yolov4", 80)
    return {"truncated_at": _place(file, layers_of(network.model, 80)) + ", if it is yolov4"}


def _place(file: WeightsFile, layers) -> str:
    idx, inside = file.cut(layers)
    whole = file.header.size + 4 * sum(layer.floats for layer in layers)
    if file.bytes > whole:
        return f"not cut: {file.bytes - whole} bytes too many"
    return f"{'inside' if inside else 'before'} section {idx} ({file.bytes} of {whole} bytes)"


def _trainable(layer) -> int:
    return sum(int(np.prod(shape)) for name, shape in layer.shapes().items() if "moving_" not in name)


def _network(model, classes: int | None) -> dict[str, Any]:
    return {"architecture": model.architecture, "classes": classes, "width": model.width, "depth": model.depth}


def _own(path: Path) -> dict[str, Any]:
    own = read_own(path)
    origin = own.card.origin
    cut = f"before section {origin['partial']} (converted so)" if "partial" in origin else None
    found = _network(own.card.model, len(own.card.class_names)) | {"parameters": _count(own.tensors)}
    return found | {"truncated_at": cut}


def _named(path: Path, family: str) -> dict[str, Any]:
    if family in SCHEMES:
        tensors = read_torch(path)
        scheme, architecture = SCHEMES[family]
    else:
        tensors = read_mindspore(path)
        is_detector = any("backblock0." in name or ".66.m.0." in name for name in tensors)
        architecture = "yolov4" if is_detector else "cspdarknet53"
        scheme = MINDYOLO if family == "mindyolo" else DETECTOR if is_detector else CLASSIFIER
    bare = {name: value for full, value in tensors.items() if (name := scheme.bare(full)) is not None}
    model, classes = infer_model(tensors, scheme, architecture, path)
    return _network(model, classes) | {"parameters": _count(bare)}


def _count(tensors: dict[str, NDArray]) -> int:
    return sum(value.size for name, value in tensors.items() if not name.endswith(_RUNNING) and not _is_aside(name))


def _is_aside(name: str) -> bool:
    return name.startswith(_ASIDE)


def _cut(path: Path) -> str | None:
    try:
        read_index(path)
    except FormatError as error:
        return f"{path.stat().st_size} bytes ({error})"
    return None


if __name__ == "__main__":
    sys.exit(run_command(main))

"""Renames tensors between a foreign format and ours, and checks that both have the same set.

Beside names, four things may differ: input halves in the other order, output rows stacked with
another layer's, a kernel in the middle of a larger one, and the epsilon of batch normalisation.
All conversions are exact but the last one, which rounds to float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError, first_names
from mindyolo_v4.models.blocks import scale_blocks, scale_channels
from mindyolo_v4.models.cspdarknet53 import STAGES, Stage
from mindyolo_v4.models.sections import Kind, Layer
from mindyolo_v4.models.topology import layers_of
from mindyolo_v4.weights.files import check_finite
from mindyolo_v4.weights.schemes import Scheme, Slot

Tensors = Mapping[str, NDArray]
_NAMES_SHOWN = 6
_WIDTHS = (1.0, 0.25, 0.33, 0.5, 0.67, 0.75, 1.25, 0.125)
_DEPTHS = (1.0, 0.33, 0.5, 0.67, 0.25, 0.75, 1.33, *(step / 100 for step in range(1, 401)))


def import_tensors(
    source: Tensors, scheme: Scheme, layers: tuple[Layer, ...], path: Path
) -> dict[str, NDArray]:
    """Return our parameters from a file's tensors; every one of both sides is used exactly once.

    Raises:
        UserError: tensors are missing, unexpected or misshapen (names all), or not finite.
    """
    given = bare_tensors(source, scheme)
    ours: dict[str, NDArray] = {}
    missing = []
    misshapen = []
    used = set()
    for layer in layers:
        slot = _slot(scheme, layer, path)
        shapes = layer.shapes()
        for name, theirs in scheme.suffixes.names(layer, slot).items():
            used.add(theirs)
            if theirs not in given:
                missing.append(theirs)
                continue
            value = given[theirs]
            rows, *rest = shapes[name]
            expected = (rows if slot.rows == "all" else 2 * rows, *rest)
            if value.shape != expected:
                misshapen.append(f"{theirs} {value.shape}, expected {expected}")
                continue
            ours[name] = np.ascontiguousarray(_from_foreign(value, slot), np.float32)
    unexpected = sorted(set(given) - used)
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    problems = [
        f"{kind} {len(names)}: {first_names(names, _NAMES_SHOWN)}"
        for kind, names in kinds.items()
        if names
    ]
    if problems:
        problem = "its tensors do not cover the network exactly"
        raise UserError(path, f"{problem}; {'; '.join(problems)}")
    check_finite(path, given)
    return ours


def bare_tensors(source: Tensors, scheme: Scheme) -> dict[str, NDArray]:
    """Return a file's tensors that belong to the network, by their usual names."""
    return {
        bare: value for name, value in source.items() if (bare := scheme.bare(name)) is not None
    }


def missing_tensors(source: Tensors, scheme: Scheme, model: ModelConfig, classes: int) -> list[str]:
    """Return the names of a network's tensors that a file lacks, in the order of its layers."""
    given = bare_tensors(source, scheme)
    return [
        name
        for layer in used_layers(model, classes)
        for name in scheme.suffixes.names(layer, _slot(scheme, layer, Path())).values()
        if name not in given
    ]


def export_tensors(
    ours: Tensors, scheme: Scheme, layers: tuple[Layer, ...], path: Path
) -> dict[str, NDArray]:
    """Return a foreign file's tensors from our parameters (the reverse of `import_tensors`)."""
    theirs: dict[str, NDArray] = {}
    for layer in layers:
        slot = _slot(scheme, layer, path)
        for name, suffix in scheme.suffixes.names(layer, slot).items():
            value = _to_foreign(np.asarray(ours[name]), slot)
            foreign = scheme.exported_prefix + suffix
            if slot.rows == "second":  # the first half, of the bypass, is an earlier layer
                value = np.concatenate([theirs[foreign], value])
            theirs[foreign] = value
    return theirs


def shift_epsilon(ours: Tensors, bn_eps: float, target_eps: float) -> dict[str, NDArray]:
    """Return the parameters for batch normalisation with another epsilon: v' = v + eps - eps'.

    A shifted variance may be slightly negative; the root is taken of v' + eps', which is not.
    """
    if bn_eps == target_eps:
        return dict(ours)
    return {
        name: (value.astype(np.float64) + (bn_eps - target_eps)).astype(np.float32)
        if name.endswith("moving_variance")
        else value
        for name, value in ours.items()
    }


def infer_model(source: Tensors, scheme: Scheme, path: Path) -> tuple[ModelConfig, int]:
    """Return the network and the number of classes (0: a backbone alone) that a file's shapes tell.

    Raises:
        UserError: a tensor that is needed is missing, or no depth multiple fits.
    """
    shapes = {name: value.shape for name, value in bare_tensors(source, scheme).items()}

    def weight(name: str, kind: Kind) -> tuple[int, ...] | None:
        slot = scheme.slot(name)
        layer = Layer(0, name, kind, 0, 0, 0)
        return shapes.get(list(scheme.suffixes.names(layer, slot).values())[-1]) if slot else None

    architecture = scheme.architectures[0]
    is_tiny = architecture == "yolov4-tiny"
    last = weight("backbone.final" if is_tiny else "backbone.stage5.down", "norm")
    if last is None:
        got = first_names(sorted(shapes), _NAMES_SHOWN)
        raise UserError(path, f"has no backbone of {scheme.description}", got)
    width = width_of(last[0], 512 if is_tiny else 1024)
    depth = 1.0 if is_tiny else _depth(weight, path)
    model = ModelConfig(architecture, width, depth, **scheme.variants)  # type: ignore[arg-type]

    if model.architecture == "cspdarknet53":
        dense = weight("fc", "dense")
        return model, dense[0] if dense else 0
    if is_tiny and weight("neck.reduce", "norm") is None:
        return model, 0
    top, predict = weight("neck.reduce4", "norm"), weight("head.predict5", "biased")
    if not (top or is_tiny) or predict is None or predict[0] % 3 or predict[0] < 18:
        problem = f"has no detector's head of {scheme.description}"
        raise UserError(path, problem, predict, "3 (5 + classes) outputs")
    if top is not None:
        model = replace(model, topdown_kernel=top[-1])  # type: ignore[arg-type]
    return model, predict[0] // 3 - 5


def _depth(weight: Callable[[str, Kind], tuple[int, ...] | None], path: Path) -> float:
    """Return the depth multiple that the numbers of residual blocks per stage tell."""
    blocks = []
    for number in range(1, len(STAGES) + 1):
        count = 0
        while weight(f"backbone.stage{number}.blocks.{count}.conv1", "norm") is not None:
            count += 1
        blocks.append(count)
    depth = depth_of(tuple(blocks))
    if depth is None:
        problem = "no depth multiple has its residual blocks per stage"
        raise UserError(path, problem, str(blocks), "1, 2, 8, 8, 4 in full")
    return depth


def width_of(channels: int, full: int) -> float:
    """Return the simplest width multiple that makes `channels` of the widest layer's `full`."""
    fitting = (width for width in _WIDTHS if scale_channels(full, width) == channels)
    return next(fitting, channels / full)


def depth_of(blocks: tuple[int, ...], stages: tuple[Stage, ...] = STAGES) -> float | None:
    """Return the simplest depth multiple that gives the stages these numbers of residual blocks."""
    for depth in _DEPTHS:
        if blocks == tuple(scale_blocks(stage.blocks, depth) for stage in stages):
            return depth
    return None


def used_layers(model: ModelConfig, classes: int) -> tuple[Layer, ...]:
    """Return the layers of a network, or of its backbone alone where there are no classes."""
    layers = layers_of(model, max(classes, 1))
    return tuple(layer for layer in layers if classes or layer.name.startswith("backbone."))


def _slot(scheme: Scheme, layer: Layer, path: Path) -> Slot:
    slot = scheme.slot(layer.name)
    if slot is None:
        raise UserError(path, f"{scheme.description} has no counterpart of a layer", layer.name)
    return replace(slot, kernel=None) if slot.kernel == layer.kernel else slot


def _from_foreign(value: NDArray, slot: Slot) -> NDArray:
    if slot.rows != "all":
        half = value.shape[0] // 2
        value = value[:half] if slot.rows == "first" else value[half:]
    return swap_halves(value) if slot.swapped and value.ndim == 4 else value


def _to_foreign(value: NDArray, slot: Slot) -> NDArray:
    if value.ndim != 4:
        return value
    if slot.swapped:
        value = swap_halves(value)
    if slot.kernel is not None:
        border = (slot.kernel - value.shape[-1]) // 2
        value = np.pad(value, ((0, 0), (0, 0), (border, border), (border, border)))
    return value


def swap_halves(weight: NDArray) -> NDArray:
    """Exchange the halves of a weight's input channels (O, I, k, k)."""
    first, second = np.split(weight, 2, axis=1)
    return np.concatenate([second, first], axis=1)

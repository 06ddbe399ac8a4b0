"""Renames tensors between a foreign format and ours, applies the special operations and checks the exact cover.

The operations are those of no other place in the package: swapped input halves, stacked output rows, a kernel in the
middle of a larger one, and the shift of the running variance by the difference of two epsilons. All are exact but the
shift, which rounds to float32.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.blocks import scale_blocks, scale_channels
from mindyolo_v4.models.cspdarknet53 import STAGES
from mindyolo_v4.weights.files import check_finite
from mindyolo_v4.weights.schemes import Place, Scheme
from mindyolo_v4.weights.topology import Layer, layers_of

Tensors = Mapping[str, NDArray]
_NAMES_SHOWN = 6
_WIDTHS = (1.0, 0.25, 0.33, 0.5, 0.67, 0.75, 1.25, 0.125)
_DEPTHS = (1.0, 0.33, 0.5, 0.67, 0.25, 0.75, 1.33, *(step / 100 for step in range(1, 401)))


def import_tensors(
    source: Tensors, scheme: Scheme, layers: tuple[Layer, ...], path: str | Path
) -> dict[str, NDArray]:
    """Return our parameters from a file's tensors, every one of both sides used exactly once.

    Raises:
        UserError: tensors are missing, unexpected or misshapen (all are named), or not finite.
    """
    given = bare_tensors(source, scheme)
    ours: dict[str, NDArray] = {}
    missing, misshapen, used = [], [], set()
    for layer in layers:
        place = _place(scheme, layer, path)
        for (name, shape), theirs in zip(
            layer.shapes().items(), scheme.suffixes.names(layer, place).values(), strict=True
        ):
            used.add(theirs)
            if theirs not in given:
                missing.append(theirs)
                continue
            expected = _foreign_shape(shape, place)
            if given[theirs].shape != expected:
                misshapen.append(f"{theirs} {given[theirs].shape}, expected {expected}")
                continue
            ours[name] = _from_foreign(given[theirs], place)
    check_cover(path, missing, sorted(set(given) - used), misshapen)
    check_finite(path, {name: value for name, value in given.items() if name in used})
    return {name: np.ascontiguousarray(value, np.float32) for name, value in ours.items()}


def bare_tensors(source: Tensors, scheme: Scheme) -> dict[str, NDArray]:
    """Return what of a file belongs to the network, by names without what may stand before them."""
    return {
        bare: value for name, value in source.items() if (bare := scheme.bare(name)) is not None
    }


def missing_tensors(source: Tensors, scheme: Scheme, model: ModelConfig, classes: int) -> list[str]:
    """Return what a file lacks of a network, in the order of its layers."""
    given = bare_tensors(source, scheme)
    layers = used_layers(model, classes)
    names = (
        name
        for layer in layers
        for name in scheme.suffixes.names(layer, _place(scheme, layer, "")).values()
    )
    return [name for name in names if name not in given]


def export_tensors(
    ours: Tensors, scheme: Scheme, layers: tuple[Layer, ...], path: str | Path
) -> dict[str, NDArray]:
    """Return a foreign file's tensors from our parameters (the reverse of `import_tensors`)."""
    theirs: dict[str, NDArray] = {}
    for layer in layers:
        place = _place(scheme, layer, path)
        for name, foreign in scheme.suffixes.names(layer, place).items():
            value = _to_foreign(np.asarray(ours[name]), place)
            foreign = scheme.exported_prefix + foreign
            if (
                place.rows == "second"
            ):  # the first half came before: bypass precedes main_in in the order of layers
                value = np.concatenate([theirs[foreign], value])
            theirs[foreign] = value
    return theirs


def shift_epsilon(ours: Tensors, bn_eps: float, target_eps: float) -> dict[str, NDArray]:
    """Return the parameters for batch normalisation with another epsilon: v' = v + eps - eps'.

    A shifted variance may be slightly negative; v' + eps' is what the root sees, and it is not.
    """
    if bn_eps == target_eps:
        return dict(ours)
    return {
        name: (value.astype(np.float64) + (bn_eps - target_eps)).astype(np.float32)
        if name.endswith("moving_variance")
        else value
        for name, value in ours.items()
    }


def infer_model(source: Tensors, scheme: Scheme, path: str | Path) -> tuple[ModelConfig, int]:
    """Return the network and the number of classes (0: a backbone alone) that the shapes of a file tell.

    Raises:
        UserError: a tensor that tells them is missing, or no depth multiple gives the blocks found.
    """
    shapes = {name: value.shape for name, value in bare_tensors(source, scheme).items()}

    def weight(name: str, kind: str) -> tuple[int, ...] | None:
        place = scheme.place(name)
        layer = Layer(0, name, kind, 0, 0, 0)  # type: ignore[arg-type]
        return shapes.get(list(scheme.suffixes.names(layer, place).values())[-1]) if place else None

    last = weight("backbone.stage5.down", "norm")
    if last is None:
        raise UserError(path, f"has no backbone of {scheme.description}", _some(sorted(shapes)))
    blocks = []
    for number, _ in enumerate(STAGES, start=1):
        count = 0
        while weight(f"backbone.stage{number}.blocks.{count}.conv1", "norm") is not None:
            count += 1
        blocks.append(count)
    depth = depth_of(tuple(blocks))
    if depth is None:
        problem = "no depth multiple has its residual blocks a stage"
        raise UserError(path, problem, str(blocks), "1, 2, 8, 8, 4 in full")
    model = ModelConfig(scheme.architectures[0], width_of(last[0]), depth)  # type: ignore[arg-type]
    model = replace(model, **scheme.variants)
    if model.architecture == "cspdarknet53":
        dense = weight("fc", "dense")
        return model, dense[0] if dense else 0
    top, predict = weight("neck.reduce4", "norm"), weight("head.predict5", "biased")
    if top is None or predict is None or predict[0] % 3 or predict[0] < 18:
        raise UserError(
            path,
            f"has no detector's head of {scheme.description}",
            predict,
            "3 (5 + classes) outputs",
        )
    return replace(model, topdown_kernel=top[-1]), predict[0] // 3 - 5


def width_of(channels: int, full: int = 1024) -> float:
    """Return the simplest width multiple that makes `channels` of the widest layer's `full`."""
    return next(
        (width for width in _WIDTHS if scale_channels(full, width) == channels), channels / full
    )


def depth_of(blocks: tuple[int, ...]) -> float | None:
    """Return the simplest depth multiple whose stages have these numbers of residual blocks, None where none has."""
    fitting = (
        depth
        for depth in _DEPTHS
        if blocks == tuple(scale_blocks(stage.blocks, depth) for stage in STAGES)
    )
    return next(fitting, None)


def used_layers(model: ModelConfig, classes: int) -> tuple[Layer, ...]:
    """Return the layers of a network, or of its backbone alone where there are no classes."""
    layers = layers_of(model, max(classes, 1))
    return (
        layers
        if classes
        else tuple(layer for layer in layers if layer.name.startswith("backbone."))
    )


def check_cover(
    path: str | Path, missing: list[str], unexpected: list[str], misshapen: list[str]
) -> None:
    """Raise UserError that names every kind of misfit."""
    problems = [
        f"{label} {len(names)}: {_some(names)}"
        for label, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
        )
        if names
    ]
    if problems:
        raise UserError(
            path, f"its tensors do not cover the network exactly; {'; '.join(problems)}"
        )


def _place(scheme: Scheme, layer: Layer, path: str | Path) -> Place:
    place = scheme.place(layer.name)
    if place is None:
        raise UserError(path, f"{scheme.description} has no counterpart of a layer", layer.name)
    if place.kernel is not None and place.kernel == layer.kernel:
        return replace(place, kernel=None)
    return place


def _foreign_shape(shape: tuple[int, ...], place: Place) -> tuple[int, ...]:
    if place.rows != "all":
        shape = (2 * shape[0], *shape[1:])
    return shape


def _from_foreign(value: NDArray, place: Place) -> NDArray:
    if place.rows != "all":
        half = value.shape[0] // 2
        value = value[:half] if place.rows == "first" else value[half:]
    return swap_halves(value) if place.swapped and value.ndim == 4 else value


def _to_foreign(value: NDArray, place: Place) -> NDArray:
    if value.ndim != 4:
        return value
    if place.swapped:
        value = swap_halves(value)
    if place.kernel is not None:
        border = (place.kernel - value.shape[-1]) // 2
        value = np.pad(value, ((0, 0), (0, 0), (border, border), (border, border)))
    return value


def swap_halves(weight: NDArray) -> NDArray:
    """Exchange the halves of a weight's input channels (O, I, k, k)."""
    half = weight.shape[1] // 2
    return np.concatenate([weight[:, half:], weight[:, :half]], axis=1)


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + rest

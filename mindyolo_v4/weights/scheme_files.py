"""From a name table to files and back: the part that all formats with named tensors share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.topology import layers_of
from mindyolo_v4.weights.command import Request, require_suffix
from mindyolo_v4.weights.files import Converted, Own, as_tensor, note, output_file
from mindyolo_v4.weights.mapping import (
    export_tensors,
    import_tensors,
    infer_model,
    shift_epsilon,
    used_layers,
)
from mindyolo_v4.weights.schemes import Scheme


def from_scheme(request: Request, tensors: Mapping[str, NDArray], scheme: Scheme) -> Converted:
    """Convert tensors that are named as `scheme` says.

    Raises:
        UserError: the file holds another architecture than asked for, or another set of tensors.
    """
    asked = request.architecture
    for option, value in (("--partial", request.partial), ("--cfg", request.cfg)):
        if value is not None:
            raise UserError(option, f"has no meaning for {scheme.description}", str(value))
    if asked not in (None, *scheme.architectures):
        held = " or ".join(scheme.architectures)
        raise UserError(request.source, "holds another architecture", held, f"--arch {asked}")
    notes: tuple[str, ...] = (scheme.assumed,) if scheme.assumed else ()
    if asked is None and len(scheme.architectures) > 1:
        usual, *others = scheme.architectures
        notes += (
            f"taken for {usual}: the file does not tell it from {', '.join(others)} (--arch)",
        )
    model, classes = infer_model(tensors, scheme, request.source)
    architecture: Any = asked or model.architecture
    model = replace(model, architecture=architecture, bn_eps=scheme.bn_eps)
    return Converted(
        import_tensors(tensors, scheme, used_layers(model, classes), request.source),
        *(model, classes, scheme.preprocessing, scheme.img_size),
        *(scheme.name, scheme.description),
        notes=notes,
    )


def export_checked(own: Own, scheme: Scheme) -> dict[str, NDArray]:
    """Return a checkpoint's tensors in a foreign format, if that computes the same.

    Raises:
        UserError: the format's network differs from ours and cannot be made equal; names the key.
    """
    card = own.card
    model = own.card.model
    if model.architecture not in scheme.architectures:
        held = " or ".join(scheme.architectures)
        problem = f"is not a network of {scheme.description}"
        raise UserError(own.path, problem, model.architecture, held)
    for key, got, expected in differences(model, scheme):
        problem = f"{scheme.description} differs in model.{key}: an export would not be exact"
        raise UserError(own.path, problem, got, expected)
    if card.preprocessing != scheme.preprocessing:
        theirs = f"other input than {scheme.description} prepares"
        note(f"{own.path} was trained for {theirs}: {card.preprocessing}")
    levels = model.anchor_set.levels  # of a classifier: none
    usual = ModelConfig(model.architecture).anchor_set.levels
    anchors = [level.anchors_wh_px for level in levels]
    if anchors != [level.anchors_wh_px for level in usual]:
        note(f"the anchors of {own.path} are its own: set them there too: {anchors}")
    scales = [level.scale_x_y for level in levels]
    if scales != [level.scale_x_y for level in usual]:
        note(f"scale_x_y of {own.path} is its own: set it there too: {scales}")
    tensors = shift_epsilon(own.tensors, model.bn_eps, scheme.bn_eps)
    return export_tensors(tensors, scheme, layers_of(model, len(card.class_names)), own.path)


def differences(model: ModelConfig, scheme: Scheme) -> list[tuple[str, object, object]]:
    """Return (key, ours, theirs) of the model options that no renaming can make equal."""
    theirs = {"stride2_padding": "symmetric", "box_decode": "exp"} | scheme.variants
    if "leaky" in model.activations:
        theirs["leaky_slope"] = 0.1
    slot = scheme.slot("neck.reduce4")
    if slot is not None and slot.kernel is None:  # no larger kernel that ours could lie in
        theirs["topdown_kernel"] = 1
    ours = {key: getattr(model, key) for key in theirs} | {"box_decode": model.decode}
    unequal = [(key, ours[key], value) for key, value in theirs.items() if ours[key] != value]
    usual = ModelConfig(model.architecture).activations
    if model.activations != usual and "backbone_activation" not in scheme.variants:
        unequal.append(("backbone_activation and model.neck_activation", model.activations, usual))
    return unequal


def write_mindspore(target: Path, tensors: Mapping[str, NDArray]) -> Sequence[Path]:
    """Write a MindSpore checkpoint that is not ours."""
    require_suffix(target, ".ckpt", "a MindSpore checkpoint")
    rows = [{"name": name, "data": as_tensor(value)} for name, value in tensors.items()]
    with output_file(target) as unfinished:
        ms.save_checkpoint(rows, str(unfinished))
    return (target,)

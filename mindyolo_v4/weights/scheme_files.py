"""From a name table to files and back: the part that all formats with named tensors share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mindspore as ms
from mindspore import Tensor
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.command import Request, check_complete
from mindyolo_v4.weights.files import Converted, Own, note, write_whole
from mindyolo_v4.weights.mapping import (
    export_tensors,
    import_tensors,
    infer_model,
    shift_epsilon,
    used_layers,
)
from mindyolo_v4.weights.schemes import Scheme
from mindyolo_v4.weights.topology import layers_of


def from_scheme(request: Request, tensors: Mapping[str, NDArray], scheme: Scheme) -> Converted:
    """Convert tensors that are named as `scheme` says.

    Raises:
        UserError: the file holds another architecture than asked for, or does not cover the network exactly.
    """
    if request.partial is not None:
        raise UserError("--partial", f"has no meaning for {scheme.description}", request.partial)
    if request.architecture not in (None, *scheme.architectures):
        held = " or ".join(scheme.architectures)
        raise UserError(
            request.source, "holds another architecture", held, f"--arch {request.architecture}"
        )
    notes: tuple[str, ...] = ()
    if request.architecture is None and len(scheme.architectures) > 1:
        usual, *others = scheme.architectures
        notes = (f"taken for {usual}: the file does not tell it from {', '.join(others)} (--arch)",)
    model, classes = infer_model(tensors, scheme, request.source)
    model = replace(
        model, architecture=request.architecture or model.architecture, bn_eps=scheme.bn_eps
    )
    ours = import_tensors(tensors, scheme, used_layers(model, classes), request.source)
    return Converted(
        ours,
        model,
        classes,
        scheme.preprocessing,
        scheme.img_size,
        scheme.name,
        scheme.description,
        notes=notes,
    )


def export_checked(own: Own, scheme: Scheme) -> dict[str, NDArray]:
    """Return a checkpoint's tensors in a foreign format, if that computes the same.

    Raises:
        UserError: the format's network differs from ours where no operation can make it equal; the key is named.
    """
    model, classes = own.card.model, len(own.card.class_names)
    if model.architecture not in scheme.architectures:
        held = " or ".join(scheme.architectures)
        raise UserError(
            own.path, f"is no network of {scheme.description}", model.architecture, held
        )
    check_complete(own)
    for key, got, expected in differences(model, scheme):
        raise UserError(
            own.path,
            f"{scheme.description} differs in model.{key}: an export would not be exact",
            got,
            expected,
        )
    if own.card.preprocessing != scheme.preprocessing:
        note(
            f"{own.path} was trained for other input than {scheme.description} prepares: {own.card.preprocessing}"
        )
    if model.anchor_set != replace(model, anchors_wh_px=None).anchor_set:
        note(f"the anchors of {own.path} are its own: set them there too: {model.anchors_wh_px}")
    tensors = shift_epsilon(own.tensors, model.bn_eps, scheme.bn_eps)
    return export_tensors(tensors, scheme, layers_of(model, classes), own.path)


def differences(model: ModelConfig, scheme: Scheme) -> list[tuple[str, object, object]]:
    """Return (key, ours, theirs) of the model options that no renaming can bring together."""
    theirs = {"stride2_padding": "symmetric", "box_decode": "exp"} | scheme.variants
    place = scheme.place("neck.reduce4")
    if place is not None and place.kernel is None:  # no larger kernel that ours could lie in
        theirs["topdown_kernel"] = 1
    found = [
        (key, getattr(model, key), want)
        for key, want in theirs.items()
        if getattr(model, key) != want
    ]
    usual = ModelConfig(model.architecture).activations
    if model.activations != usual and "backbone_activation" not in scheme.variants:
        found.append(("backbone_activation and model.neck_activation", model.activations, usual))
    return found


def write_mindspore(target: Path, tensors: Mapping[str, NDArray]) -> Sequence[Path]:
    """Write a MindSpore checkpoint that is not ours."""
    if target.suffix != ".ckpt":
        raise UserError(target, "a MindSpore checkpoint must end in .ckpt", target.suffix, ".ckpt")
    rows = [{"name": name, "data": Tensor.from_numpy(value)} for name, value in tensors.items()]

    def write(path: Path) -> None:
        ms.save_checkpoint(rows, str(path))

    write_whole({target: write})
    return (target,)

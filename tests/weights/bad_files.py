"""Every conversion command with a good file of its format, and what each must do with a bad one."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mindyolo_v4.models.topology import layers_of, parameter_shapes
from mindyolo_v4.weights.darknet_cfg import write_cfg
from mindyolo_v4.weights.mapping import export_tensors
from mindyolo_v4.weights.mindspore_zoo import CLASSIFIER as ZOO
from mindyolo_v4.weights.mindyolo import SCHEME as MINDYOLO
from mindyolo_v4.weights.torch_schemes import TIANXIAOMO
from tests.weights import torch_files
from tests.weights.foreign import write_mindspore
from tests.weights.narrow import CLASSIFIER, DETECTOR, TINY, Tensors, random_tensors, run, write_own


@dataclass(frozen=True)
class Case:
    """A command with a good file of its format."""

    command: str
    name: str
    write: Callable[[Path, Tensors], object]
    tensors: Callable[[], Tensors]
    broken: str  # the tensor that is to hold NaN
    target: str = "out.ckpt"
    options: tuple[str, ...] = ()  # more that the command line needs


def _darknet(path: Path, tensors: Tensors) -> None:
    path.write_bytes(
        struct.pack("<iiiQ", 0, 2, 5, 64) + b"".join(v.tobytes() for v in tensors.values())
    )
    path.with_suffix(".cfg").write_text(write_cfg(TINY, 3, 96, letterbox=False))


def _named(scheme, model) -> Callable[[], Tensors]:
    def make() -> Tensors:
        values = random_tensors(parameter_shapes(model, 3))
        return {
            name: np.array(value)
            for name, value in export_tensors(values, scheme, layers_of(model, 3), "").items()
        }

    return make


def _ours() -> Tensors:
    return random_tensors(parameter_shapes(TINY, 3))


def _safetensors(path: Path, tensors: Tensors) -> None:
    safetensors.numpy.save_file(tensors, path)


def _card_and_tensors(path: Path, tensors: Tensors) -> None:
    source = write_own(path.with_suffix(".ckpt"), TINY)
    assert run("safetensors", source, path) == 0
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(tensors, path, metadata)
    source.unlink()


def _own(path: Path, tensors: Tensors) -> None:
    write_own(path, TINY, tensors=tensors)


def _tianxiaomo() -> Tensors:
    return _named(TIANXIAOMO, DETECTOR)()


_BIAS = "neck.conv7.conv.1.bias"  # of Tianxiaomo
_SILENT = ("--arch", "yolov4")  # the file could be of another architecture, which would be noted
CASES = {
    "darknet": Case("darknet", "in.weights", _darknet, _ours, "backbone.block1.part1.conv.weight"),
    "zoo": Case(
        "mindspore_zoo",
        "in.ckpt",
        write_mindspore,
        _named(ZOO, CLASSIFIER),
        "backbone.conv8.0.weight",
    ),
    "mindyolo": Case(
        "mindyolo",
        "in.ckpt",
        write_mindspore,
        _named(MINDYOLO, DETECTOR),
        "model.model.45.bn.beta",
        options=_SILENT,
    ),
    "pth": Case("pytorch", "in.pth", torch_files.write_zip, _tianxiaomo, _BIAS),
    "legacy": Case("pytorch", "in.pt", torch_files.write_legacy, _tianxiaomo, _BIAS),
    "torch safetensors": Case("pytorch", "in.safetensors", _safetensors, _tianxiaomo, _BIAS),
    "safetensors": Case(
        "safetensors", "in.safetensors", _card_and_tensors, _ours, "neck.reduce.conv.weight"
    ),
    "to safetensors": Case(
        "safetensors", "in.ckpt", _own, _ours, "head.predict4.bias", "out.safetensors"
    ),
    "to darknet": Case("darknet", "in.ckpt", _own, _ours, "head.predict4.bias", "out.weights"),
}
EVERY = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


def good_file(case: Case, folder: Path) -> Path:
    source = folder / case.name
    case.write(source, case.tensors())
    return source


def refused(
    case: Case, source: Path, capfd: pytest.CaptureFixture[str], *options: object, target: str = ""
) -> str:
    """Check that the command ends with one line and leaves nothing; return the line."""
    before = {path: path.read_bytes() for path in source.parent.rglob("*") if path.is_file()}
    capfd.readouterr()
    destination = source.parent / (target or case.target)
    assert run(case.command, source, destination, *case.options, *options) == 2
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith("error: ")
    assert {
        path: path.read_bytes() for path in source.parent.rglob("*") if path.is_file()
    } == before
    return line.removeprefix("error: ")

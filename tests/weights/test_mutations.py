"""Mistakes that no shape check sees, each put into the rules once: the outputs must tell.

A narrow network is written as mindyolo, the zoo or timm would hold it, and converted back; its
outputs are the expected ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from mindspore import Tensor
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import layers_of, parameter_shapes
from mindyolo_v4.weights import mindspore_zoo, mindyolo, pytorch
from mindyolo_v4.weights.mapping import export_tensors, shift_epsilon
from mindyolo_v4.weights.mindspore_zoo import CLASSIFIER, DETECTOR
from mindyolo_v4.weights.mindyolo import SCHEME as MINDYOLO
from mindyolo_v4.weights.schemes import Scheme, Slot
from mindyolo_v4.weights.torch_schemes import TIMM
from tests.weights.foreign import write_mindspore
from tests.weights.narrow import DETECTOR as NARROW
from tests.weights.narrow import build, random_tensors, run, write_own

TOLERANCE = 1e-4  # of each output's largest magnitude, as in the tests of the formats
TRUTHS = {
    "mindyolo": (MINDYOLO, replace(NARROW, topdown_kernel=3, bn_eps=1e-3)),
    "zoo": (DETECTOR, replace(NARROW, stride2_padding="same")),
    "classifier": (
        CLASSIFIER,
        ModelConfig("cspdarknet53", width=0.05, depth=0.1, stride2_padding="same"),
    ),
    "timm": (
        TIMM,
        ModelConfig("cspdarknet53", width=0.05, depth=0.1, backbone_activation="leaky001"),
    ),
}
COMMANDS = {
    "mindyolo": "mindyolo",
    "zoo": "mindspore_zoo",
    "classifier": "mindspore_zoo",
    "timm": "pytorch",
}


def outputs(path: Path) -> list[NDArray]:
    image = Tensor(np.random.default_rng(1).random((1, 3, 64, 64), np.float32))
    found = build(path)(image)
    return [value.asnumpy() for value in (found if isinstance(found, tuple) else (found,))]


@pytest.fixture(scope="module")
def truths(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], tuple[Path, list[NDArray]]]]:
    """Return a function: format -> (a file of it, the outputs that its network computes)."""
    made: dict[str, tuple[Path, list[NDArray]]] = {}

    def make(form: str) -> tuple[Path, list[NDArray]]:
        if form not in made:
            folder = tmp_path_factory.mktemp(form)
            scheme, model = TRUTHS[form]
            values = random_tensors(parameter_shapes(model, 3))
            theirs = export_tensors(values, scheme, layers_of(model, 3), "")
            source = folder / ("theirs.safetensors" if form == "timm" else "theirs.ckpt")
            if form == "timm":
                safetensors.numpy.save_file(
                    {name: np.array(value) for name, value in theirs.items()}, source
                )
            else:
                write_mindspore(source, theirs)
            made[form] = (source, outputs(write_own(folder / "truth.ckpt", model, tensors=values)))
        return made[form]

    yield make


def difference(form: str, source: Path, truth: list[NDArray], folder: Path) -> float:
    """Convert, run, and return the largest difference by the largest magnitude of its output."""
    assert run(COMMANDS[form], source, folder / "ours.ckpt") == 0
    found = outputs(folder / "ours.ckpt")
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, truth, strict=True)
    )


def changed(
    scheme: Scheme, change: Callable[[str, Callable[[str], Slot | None]], Slot | None]
) -> Scheme:
    return replace(scheme, slot=lambda name: change(name, scheme.slot))


def unswapped(which: str) -> Callable:
    return lambda name, slot: replace(slot(name), swapped=False) if name == which else slot(name)


def exchanged(stage: int) -> Callable:
    pair = {f"backbone.stage{stage}.bypass": f"backbone.stage{stage}.main_in"}
    pair |= {other: name for name, other in pair.items()}
    return lambda name, slot: slot(pair.get(name, name))


MUTANTS = {
    "mindyolo without the first swap": (
        "mindyolo",
        changed(MINDYOLO, unswapped("neck.topdown4.0")),
    ),
    "mindyolo without the second swap": (
        "mindyolo",
        changed(MINDYOLO, unswapped("neck.topdown3.0")),
    ),
    "mindyolo, bypass and main path": ("mindyolo", changed(MINDYOLO, exchanged(3))),
    "mindyolo, darknet's epsilon": ("mindyolo", replace(MINDYOLO, bn_eps=1e-5)),
    "mindyolo, WongKinYiu's epsilon": ("mindyolo", replace(MINDYOLO, bn_eps=1e-4)),
    "mindyolo, the zoo's padding": (
        "mindyolo",
        replace(MINDYOLO, variants={"stride2_padding": "same"}),
    ),
    "zoo, darknet's padding": ("zoo", replace(DETECTOR, variants={})),
    "zoo without a swap": ("zoo", changed(DETECTOR, unswapped("neck.topdown3.0"))),
    "classifier, bypass and main path": ("classifier", changed(CLASSIFIER, exchanged(1))),
    "classifier, darknet's padding": ("classifier", replace(CLASSIFIER, variants={})),
    "timm without a swap": ("timm", changed(TIMM, unswapped("backbone.stage5.transition"))),
    "timm, rows of the split": ("timm", changed(TIMM, exchanged(2))),
    "timm, darknet's activation": ("timm", replace(TIMM, variants={})),
}


@pytest.mark.parametrize("form", TRUTHS)
def test_the_right_rules_compute_the_same(
    form: str, truths: Callable, tmp_path: Path, pynative_mode: None
) -> None:
    assert difference(form, *truths(form), tmp_path) < TOLERANCE / 100


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_the_rules_is_seen(
    name: str,
    truths: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pynative_mode: None,
) -> None:
    form, mutant = MUTANTS[name]
    monkeypatch.setattr(mindyolo, "SCHEME", mutant if form == "mindyolo" else MINDYOLO)
    monkeypatch.setattr(mindspore_zoo, "DETECTOR", mutant if form == "zoo" else DETECTOR)
    monkeypatch.setattr(mindspore_zoo, "CLASSIFIER", mutant if form == "classifier" else CLASSIFIER)
    monkeypatch.setitem(pytorch.SCHEMES, "timm", mutant if form == "timm" else TIMM)
    assert difference(form, *truths(form), tmp_path) > 10 * TOLERANCE


def test_a_forgotten_shift_of_epsilon_is_seen(tmp_path: Path, pynative_mode: None) -> None:
    """Conversions shift the variances; else a network of epsilon 1e-3 is another at 1e-5."""
    model = replace(NARROW, bn_eps=1e-3)
    values = random_tensors(parameter_shapes(model, 3))
    truth = outputs(write_own(tmp_path / "truth.ckpt", model, tensors=values))
    shifted = shift_epsilon(values, 1e-3, 1e-5)
    errors = []
    for tensors in (shifted, values):
        write_own(tmp_path / "other.ckpt", NARROW, tensors=tensors)
        found = outputs(tmp_path / "other.ckpt")
        errors.append(
            max(
                float(np.abs(a - b).max() / np.abs(b).max())
                for a, b in zip(found, truth, strict=True)
            )
        )
    assert errors[0] < TOLERANCE < errors[1] / 10

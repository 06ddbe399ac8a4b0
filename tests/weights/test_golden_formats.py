"""Each format's file of the golden weights, converted, gives the outputs that darknet computed.

The networks run operator by operator; tests/models compile them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.build import build_network
from mindyolo_v4.weights import darknet, mindspore_zoo, mindyolo, pytorch
from mindyolo_v4.weights.command import convert
from tests.models.golden import assert_golden, golden_image
from tests.models.test_classifier import GOLDEN as CLASSIFIER
from tests.models.test_yolov4 import GOLDEN as DETECTOR
from tests.weights import foreign

pytestmark = pytest.mark.slow

MODULES = {
    "darknet": darknet,
    "mindspore_zoo": mindspore_zoo,
    "mindyolo": mindyolo,
    "pytorch": pytorch,
}
Networks = dict[ModelConfig, nn.Cell]
AS_DARKNET = {"stride2_padding": "symmetric", "backbone_activation": None}


def run_convert(module: str, source: Path, target: Path, *options: str) -> int:
    """Run a conversion command in this process; return its exit status."""
    command = MODULES[module]
    return convert(
        [str(source), str(target), *options], module, "", command.to_ours, command.to_theirs
    )


@pytest.fixture(scope="module")
def detector() -> list[foreign.Convolution]:
    return list(foreign.golden_convolutions(classifier=False))


@pytest.fixture(scope="module")
def classifier() -> list[foreign.Convolution]:
    return list(foreign.golden_convolutions(classifier=True))


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Keep the networks: those of most formats differ in their weights only."""
    return {}


def write_source(
    form: str, golden: Sequence[foreign.Convolution], prefix: str, folder: Path
) -> tuple[str, Path]:
    """Write a format's file of the golden weights; return its conversion command and the file."""
    if form.startswith("darknet"):
        path = folder / "golden.weights"
        path.write_bytes(foreign.darknet_bytes(golden, short_header=form == "darknet_short"))
        return "darknet", path
    tensors = foreign.foreign_tensors(form, golden)
    if form in ("mindspore_zoo", "mindyolo"):
        path = folder / "golden_source.ckpt"
        foreign.write_mindspore(path, tensors, prefix)
        return form, path
    path = folder / "golden.safetensors"
    counters = {
        f"{name[:-12]}num_batches_tracked": np.array(7)
        for name in tensors
        if name.endswith("running_mean")
    }
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(v) for name, v in (tensors | counters).items()}, path
    )
    return "pytorch", path


def outputs(checkpoint: Checkpoint, image: Tensor, networks: Networks) -> tuple[Tensor, ...]:
    """Run a converted network with darknet's padding and activation."""
    card = checkpoint.card
    model = replace(card.model, **AS_DARKNET, cpu_fused="off")
    if model not in networks:
        networks[model] = build_network(model, len(card.class_names))
    network = networks[model]
    checkpoint.load_weights(network)
    found = network.set_train(False)(image)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize(
    ("form", "variants"),
    [
        ("darknet", {}),
        ("mindspore_zoo", {"stride2_padding": "same"}),
        ("mindyolo", {"topdown_kernel": 3, "bn_eps": 1e-3}),
        ("tianxiaomo", {}),
        ("tianxiaomo_cfg", {}),
        ("wongkinyiu", {"bn_eps": 1e-4, "box_decode": "square", "scale_x_y": (2.0, 2.0, 2.0)}),
    ],
)
def test_detector(
    form: str,
    variants: dict,
    detector: list[foreign.Convolution],
    networks: Networks,
    tmp_path: Path,
    pynative_mode: None,
) -> None:
    prefix = "feature_map." if form == "mindspore_zoo" else ""
    module, source = write_source(form, detector, prefix, tmp_path)
    target = tmp_path / "ours.ckpt"
    assert run_convert(module, source, target) == 0
    checkpoint = Checkpoint.open(target)
    card = checkpoint.card
    assert (card.architecture, len(card.class_names), card.class_names[:2]) == (
        "yolov4",
        80,
        ("person", "bicycle"),
    )
    assert {name: getattr(card.model, name) for name in variants} == variants
    maps = outputs(checkpoint, golden_image(64, 96), networks)
    assert_golden(dict(zip((138, 149, 160), maps, strict=True)), DETECTOR)


@pytest.mark.parametrize(
    ("form", "variants", "crop"),
    [
        ("darknet_short", {}, ("crop", 1.0)),
        ("mindspore_zoo", {"stride2_padding": "same"}, ("stretch_crop", 224 / 256)),
        ("deepspark", {}, ("crop", 224 / 256)),
        ("timm", {"backbone_activation": "leaky001"}, ("crop", 0.887)),
    ],
)
def test_classifier(
    form: str,
    variants: dict,
    crop: tuple[str, float],
    classifier: list[foreign.Convolution],
    networks: Networks,
    tmp_path: Path,
    pynative_mode: None,
) -> None:
    module, source = write_source(form, classifier, "network.", tmp_path)
    target = tmp_path / "ours.ckpt"
    assert run_convert(module, source, target) == 0
    checkpoint = Checkpoint.open(target)
    card = checkpoint.card
    assert (card.architecture, card.task, len(card.class_names)) == (
        "cspdarknet53",
        "classify",
        1000,
    )
    assert {name: getattr(card.model, name) for name in variants} == variants
    assert (card.preprocessing.resize, card.preprocessing.crop_fraction) == crop
    (logits,) = outputs(checkpoint, golden_image(64, 64), networks)
    assert_golden({106: logits}, CLASSIFIER)

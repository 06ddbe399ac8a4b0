"""Starting values: a function of seed and name, in the stated distributions."""

import math
from typing import Literal

import numpy as np
import pytest
from mindspore import nn
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.classifier import CSPDarknet53Classifier
from mindyolo_v4.models.initialisation import initialise
from mindyolo_v4.models.yolov4 import YoloV4

Values = dict[str, NDArray[np.float32]]
NARROW = ModelConfig(width=0.25, depth=0.34)


def values(network: nn.Cell) -> Values:
    """Return copies of all parameters by name."""
    return {name: p.asnumpy().copy() for name, p in network.parameters_dict().items()}


@pytest.fixture(scope="module")
def start() -> Values:
    return initialised(5)


def initialised(
    seed: int, prior: float = 0.01, class_prior: Literal["auto"] | None = None
) -> Values:
    """Return the starting values of a fresh narrow network."""
    network = YoloV4(NARROW, num_classes=3)
    initialise(network, seed, prior, class_prior)
    return values(network)


def test_equal_seeds_give_equal_values_and_others_do_not(start: Values) -> None:
    again, other = initialised(5), initialised(6)
    assert all(np.array_equal(start[name], again[name]) for name in start)
    changed = {name for name in start if not np.array_equal(start[name], other[name])}
    assert changed == {name for name in start if name.endswith("weight")}


def test_a_trained_network_is_fully_reset(start: Values) -> None:
    network = YoloV4(NARROW, num_classes=3)
    for parameter in network.get_parameters():
        parameter.set_data(parameter + 7.0)
    initialise(network, 5)
    reset = values(network)
    assert all(np.array_equal(reset[name], start[name]) for name in start)


def test_detector_and_classifier_share_the_backbones_start(start: Values) -> None:
    classifier = CSPDarknet53Classifier(
        ModelConfig(architecture="cspdarknet53", width=0.25, depth=0.34), 10
    )
    initialise(classifier, 5)
    backbone = {name: v for name, v in values(classifier).items() if name.startswith("backbone.")}
    assert len(backbone) > 100
    assert all(np.array_equal(v, start[name]) for name, v in backbone.items())
    assert np.all(classifier.fc.bias.asnumpy() == 0)


def test_convolutions_are_uniform_within_darknets_bound(start: Values) -> None:
    weight = start["neck.bottomup5.1.conv.weight"]
    bound = math.sqrt(2 / (9 * 128))
    assert weight.shape == (256, 128, 3, 3)
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() > 0.999 * bound
    assert weight.mean() == pytest.approx(0, abs=0.01 * bound)
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert not np.array_equal(weight, start["neck.bottomup5.3.conv.weight"])


def test_normalisation_starts_as_identity(start: Values) -> None:
    for ending, value in (
        (".gamma", 1),
        (".beta", 0),
        (".moving_mean", 0),
        (".moving_variance", 1),
    ):
        found = [v for name, v in start.items() if name.endswith(ending)]
        assert found
        assert all(np.all(v == value) for v in found)


def test_predictions_start_at_the_prior() -> None:
    start = initialised(0, prior=0.02)
    for level in (3, 4, 5):
        bias = start[f"head.predict{level}.bias"].reshape(3, 8)
        assert np.all(bias[:, :4] == 0)
        np.testing.assert_allclose(1 / (1 + np.exp(-bias[:, 4:])), 0.02, rtol=1e-5)
    assert start["head.predict5.weight"].std() == pytest.approx(0.01, rel=0.05)


def test_classes_start_at_their_own_prior() -> None:
    bias = initialised(0, class_prior="auto")["head.predict3.bias"].reshape(3, 8)
    probability = 1 / (1 + np.exp(-bias[:, 4:].astype(np.float64)))
    np.testing.assert_allclose(probability[:, 0], 0.01, rtol=1e-5)
    np.testing.assert_allclose(probability[:, 1:], 0.25, rtol=1e-6)

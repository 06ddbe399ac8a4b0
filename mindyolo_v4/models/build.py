"""Builds the network that a configuration names, with its starting values."""

from mindspore import nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.errors import require
from mindyolo_v4.models.classifier import CSPDarknet53Classifier
from mindyolo_v4.models.initialisation import initialise
from mindyolo_v4.models.yolov4 import YoloV4
from mindyolo_v4.models.yolov4_tiny import YoloV4Tiny

DETECTORS = {"yolov4": YoloV4, "yolov4-silu": YoloV4, "yolov4-tiny": YoloV4Tiny}


def build_network(model: ModelConfig, num_classes: int, seed: int = 0) -> nn.Cell:
    """Build the detector or the classifier that a configuration names."""
    build = {"detect": build_detector, "classify": build_classifier}[model.task]
    return build(model, num_classes, seed)


def build_detector(model: ModelConfig, num_classes: int, seed: int = 0) -> nn.Cell:
    """Build a detector: images (B, 3, H, W) -> raw maps (B, A(5 + C), H, W), smallest stride first.

    Raises:
        UserError: the architecture is a classifier.
    """
    known = ", ".join(DETECTORS)
    require(
        model.architecture in DETECTORS,
        "model.architecture",
        "not a detector",
        model.architecture,
        known,
    )
    network = DETECTORS[model.architecture](model, num_classes)
    initialise(network, seed, model.objectness_prior)
    return network


def build_classifier(model: ModelConfig, num_classes: int, seed: int = 0) -> CSPDarknet53Classifier:
    """Build a classifier: images (B, 3, H, W) -> logits (B, C).

    Raises:
        UserError: the architecture is a detector.
    """
    is_classifier = model.architecture == "cspdarknet53"
    require(
        is_classifier, "model.architecture", "not a classifier", model.architecture, "cspdarknet53"
    )
    network = CSPDarknet53Classifier(model, num_classes)
    initialise(network, seed)
    return network

"""Builds the network that a configuration names, with its starting values."""

from mindspore import nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.classifier import CSPDarknet53Classifier
from mindyolo_v4.models.initialisation import initialise
from mindyolo_v4.models.yolov4 import YoloV4
from mindyolo_v4.models.yolov4_tiny import YoloV4Tiny

_NETWORKS = {
    "yolov4": YoloV4,
    "yolov4-silu": YoloV4,
    "yolov4-csp": YoloV4,
    "yolov4x-mish": YoloV4,
    "yolov4-tiny": YoloV4Tiny,
    "yolov4-tiny-3l": YoloV4Tiny,
    "cspdarknet53": CSPDarknet53Classifier,
}


def build_network(model: ModelConfig, num_classes: int, seed: int = 0) -> nn.Cell:
    """Build the network of a configuration: images (B, 3, H, W) -> raw maps or logits.

    A detector returns raw maps (B, A(5 + C), H/s, W/s), smallest stride s first; a classifier
    returns logits (B, C).
    """
    network = _NETWORKS[model.architecture](model, num_classes)
    initialise(network, seed, model.objectness_prior, model.class_prior)
    return network

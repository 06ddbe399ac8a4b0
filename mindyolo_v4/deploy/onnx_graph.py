"""A network as an ONNX model, built from the topology that the conversions walk too.

Neither MindSpore's graph nor its compiler takes part: the sections of `models.topology` give the
operators, the tensors of a checkpoint the weights. Batch normalisation is folded into the
convolutions in float64.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.deploy.exported import CARD_PROPERTY
from mindyolo_v4.deploy.onnx_decode import add_decode, add_suppression
from mindyolo_v4.deploy.onnx_writer import OnnxWriter, Shape
from mindyolo_v4.errors import require, require_range
from mindyolo_v4.models.sections import DARKNET_SLOPE, Layer, Section
from mindyolo_v4.models.topology import sections_of
from mindyolo_v4.models.weighted_sum import LEAST_WEIGHT, SUM_EPS

if TYPE_CHECKING:
    import onnx

Tensors = Mapping[str, NDArray[np.float32]]

FIRST_OPSET = 13
LAST_OPSET = 22
MISH_OPSET = 18  # the first one that has the operator Mish


@dataclass(frozen=True)
class OnnxOptions:
    """What the graph takes and returns."""

    size_hw_px: tuple[int, int] | None = None  # of the input; None: any size
    batch: int | None = None  # images; None: any number
    decode: bool = False  # boxes and scores instead of raw maps
    nms: bool = False  # and what the standard operator selects of them
    opset: int = 18
    settings: EvaluateConfig = field(default_factory=EvaluateConfig)  # thresholds of `nms`
    licence: str = "Apache-2.0"  # as the file states it

    def __post_init__(self) -> None:
        require_range("--opset", self.opset, FIRST_OPSET, LAST_OPSET)


def build_onnx(tensors: Tensors, card: Card, options: OnnxOptions) -> "onnx.ModelProto":
    """Return the model of a network; it passes ONNX's checker and shape inference.

    Input `images` (B, 3, H, W) is float32 RGB 0..255; the normalisation of the card is inside.
    Outputs of a detector: the raw maps `map8`, `map16`, `map32` (those that the network has); with
    `decode` instead `boxes` (B, N, 4), corners in input pixels, and `scores` (B, N, C); with `nms`
    also `selected` (M, 3): image, class, prediction. Output of a classifier: `logits` (B, C).

    Args:
        tensors: every parameter of the network, by our names.

    Raises:
        UserError: the options do not fit the network, or the extra [onnx] is not installed.
    """
    wants_boxes = options.decode or options.nms
    is_detector = card.task == "detect"
    require(is_detector or not wants_boxes, "--decode", "a classifier has no boxes")
    graph = OnnxWriter(options.opset)
    images = _add_normalisation(graph, card)
    outputs = _add_network(graph, tensors, card, images)
    levels = card.model.anchor_set.levels
    batch = options.batch or "batch"
    classes = len(card.class_names)
    shapes: dict[str, Shape] = {}
    if not is_detector:
        shapes["logits"] = (batch, classes)
    elif wants_boxes:
        maps = [outputs[level.stride] for level in levels]
        boxes, scores = add_decode(graph, maps, card.model.anchor_set, classes, options.size_hw_px)
        count = _prediction_count(card, options)
        shapes[boxes] = (batch, count, 4)
        shapes[scores] = (batch, count, classes)
        if options.nms:
            shapes[add_suppression(graph, boxes, scores, options.settings)] = ("selected", 3)
    else:
        for level in levels:
            channels = len(level.anchor_ids) * (5 + classes)
            sides: Shape = (f"height/{level.stride}", f"width/{level.stride}")
            if options.size_hw_px is not None:
                sides = [side // level.stride for side in options.size_hw_px]
            shapes[outputs[level.stride]] = (batch, channels, *sides)
    given = {"images": (batch, 3, *(options.size_hw_px or ("height", "width")))}
    return graph.model(given, shapes, ("selected",), metadata(card, options.licence))


def metadata(card: Card, licence: str) -> dict[str, str]:
    """Return what an exported file says of itself: the card, and its parts for other programs."""
    anchors = [
        {
            "stride": level.stride,
            "anchors_wh_px": level.anchors_wh_px,
            "scale_x_y": level.scale_x_y,
            "box_decode": level.box_decode,
        }
        for level in card.model.anchor_set.levels
    ]
    size = {"width": card.img_size, "height": card.img_height or card.img_size}
    parts = {
        "names": list(card.class_names),
        "anchors": anchors,
        "preprocessing": record_to_tree(card.preprocessing) | size,
    }
    texts = {name: json.dumps(value) for name, value in parts.items()}
    texts |= {"task": card.task, "architecture": card.architecture, "license": licence}
    return {CARD_PROPERTY: json.dumps(record_to_tree(card)), **texts}


def _prediction_count(card: Card, options: OnnxOptions) -> int | str:
    if options.size_hw_px is None:
        return "predictions"
    height, width = options.size_hw_px
    return sum(
        len(level.anchor_ids) * (height // level.stride) * (width // level.stride)
        for level in card.model.anchor_set.levels
    )


def _add_normalisation(graph: OnnxWriter, card: Card) -> str:
    """Append (x - mean) / std as one product and, where there is a mean, one sum."""
    scale = 1.0 / np.array(card.preprocessing.std, np.float64).reshape(1, 3, 1, 1)
    offset = -np.array(card.preprocessing.mean, np.float64).reshape(1, 3, 1, 1) * scale
    scaled = graph.add("Mul", ["images", graph.constant("scale", scale)], "images.scaled")
    if not offset.any():
        return scaled
    return graph.add("Add", [scaled, graph.constant("offset", offset)], "images.normalised")


def _add_network(graph: OnnxWriter, tensors: Tensors, card: Card, images: str) -> dict[int, str]:
    """Append the network; return its outputs by stride (the logits of a classifier: by 0)."""
    outputs: dict[int, str] = {}
    values: list[str] = []  # what each section computes
    for idx, section in enumerate(sections_of(card.model, len(card.class_names))):
        last = values[-1] if values else images
        layer = section.layer
        name = f"{section.kind}{idx}"
        if layer is not None and section.kind == "convolutional":
            value = _add_layer(graph, tensors, card, section, layer, last)
            if layer.kind == "biased":
                outputs[_stride(layer)] = value
            elif layer.kind == "dense":
                outputs[0] = value
        elif section.kind == "route":
            value = _add_route(graph, section, values, name)
        elif section.kind == "shortcut":
            source = values[int(section.options["from"])]
            value = _add_shortcut(graph, tensors, section, last, source, name)
        elif section.kind == "maxpool":
            value = _add_maxpool(graph, section, last, name)
        elif section.kind == "upsample":
            factors = graph.constant("twice", [1, 1, 2, 2])
            mode = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            value = graph.add("Resize", [last, "", factors], name, mode="nearest", **mode)
        elif section.kind == "avgpool":
            value = graph.add("GlobalAveragePool", [last], name)
        else:  # yolo and softmax: what comes after the raw outputs
            value = last
        values.append(value)
    return outputs


def _stride(layer: Layer) -> int:
    """Return the stride of the map that a prediction `head.predict<power of two>` gives."""
    return 2 ** int(layer.name.removeprefix("head.predict"))


def _add_layer(
    graph: OnnxWriter, tensors: Tensors, card: Card, section: Section, layer: Layer, last: str
) -> str:
    """Append a convolution with its activation, or the dense layer."""
    name = layer.name
    if layer.kind == "dense":
        flat = graph.add("Flatten", [last], f"{name}.flat", axis=1)
        weight = graph.constant(f"{name}.weight", tensors[f"{name}.weight"])
        bias = graph.constant(f"{name}.bias", tensors[f"{name}.bias"])
        return graph.add("Gemm", [flat, weight, bias], "logits", transB=1)
    if layer.kind == "biased":
        weight_values = tensors[f"{name}.weight"].astype(np.float64)
        bias_values = tensors[f"{name}.bias"].astype(np.float64)
    else:
        weight_values, bias_values = fold_norm(tensors, name, card.model.bn_eps)
    weight = graph.constant(f"{name}.weight", weight_values)
    bias = graph.constant(f"{name}.bias", bias_values)
    stride = int(section.options["stride"])
    padding: dict[str, object] = {"pads": [layer.kernel // 2] * 4}
    if stride == 2 and card.model.stride2_padding == "same":
        padding = {"auto_pad": "SAME_UPPER"}
    is_output = layer.kind == "biased"
    result = f"map{_stride(layer)}" if is_output else f"{name}.conv"
    convolved = graph.add(
        "Conv",
        [last, weight, bias],
        result,
        kernel_shape=[layer.kernel] * 2,
        strides=[stride] * 2,
        **padding,
    )
    return convolved if is_output else _add_activation(graph, section, convolved, name)


def fold_norm(
    tensors: Tensors, name: str, bn_eps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weight (O, I, k, k) and bias (O,) of a convolution with its normalisation.

    w' = w g / sqrt(v + e), b' = b - m g / sqrt(v + e), in float64.
    """
    beta, gamma, mean, variance = (
        tensors[f"{name}.bn.{part}"].astype(np.float64)
        for part in ("beta", "gamma", "moving_mean", "moving_variance")
    )
    factor = gamma / np.sqrt(variance + bn_eps)
    weight = tensors[f"{name}.conv.weight"].astype(np.float64)
    return weight * factor.reshape(-1, 1, 1, 1), beta - mean * factor


def _add_activation(graph: OnnxWriter, section: Section, source: str, name: str) -> str:
    kind = section.options["activation"]
    if kind == "leaky":
        slope = float(section.options.get("leaky_slope", DARKNET_SLOPE))
        return graph.add("LeakyRelu", [source], name, alpha=slope)
    if kind == "swish":
        sigma = graph.add("Sigmoid", [source], f"{name}.sigmoid")
        return graph.add("Mul", [source, sigma], name)
    if graph.opset >= MISH_OPSET:
        return graph.add("Mish", [source], name)
    softplus = graph.add("Softplus", [source], f"{name}.softplus")
    gate = graph.add("Tanh", [softplus], f"{name}.tanh")
    return graph.add("Mul", [source, gate], name)


def _add_route(graph: OnnxWriter, section: Section, values: list[str], name: str) -> str:
    sources = [values[int(number)] for number in section.options["layers"].split(",")]
    if "groups" in section.options:  # the second half of the channels
        half = section.channels
        return graph.slice(sources[0], 1, half, 2 * half, name)
    return graph.add("Concat", sources, name, axis=1) if len(sources) > 1 else sources[0]


def _add_maxpool(graph: OnnxWriter, section: Section, last: str, name: str) -> str:
    size = int(section.options["size"])
    stride = int(section.options["stride"])
    pad = size // 2 if stride == 1 else 0
    sides = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    return graph.add("MaxPool", [last], name, **sides)


def _add_shortcut(
    graph: OnnxWriter, tensors: Tensors, section: Section, branch: str, source: str, name: str
) -> str:
    """Append the sum of a residual block, weighted where the section has weights."""
    if section.layer is None:
        return graph.add("Add", [source, branch], name)
    weights = tensors[f"{section.layer.name}.weights"].astype(np.float64).reshape(2, -1, 1, 1)
    if "softmax" in section.options["weights_normalization"]:
        positive = np.exp(weights - weights.max(axis=0))
    else:
        positive = np.maximum(weights, LEAST_WEIGHT)
    shares = positive / (SUM_EPS + positive.sum(axis=0))
    of_branch = graph.constant(f"{name}.of_branch", shares[:1])
    of_source = graph.constant(f"{name}.of_source", shares[1:])
    parts = [
        graph.add("Mul", [branch, of_branch], f"{name}.branch"),
        graph.add("Mul", [source, of_source], f"{name}.source"),
    ]
    return graph.add("Add", parts, name)

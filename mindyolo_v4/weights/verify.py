"""Proves a conversion with another engine: python -m convert.verify CKPT --darknet CFG WEIGHTS

OpenCV's DNN runs the darknet files, our network runs the checkpoint. The raw outputs
and the decoded boxes are compared, and what the cfg and the card say of the network.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorLevel, decode_boxes
from mindyolo_v4.checkpoint.card import Card, input_text
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.formats import identify
from mindyolo_v4.config.command_line import Parser, command_for
from mindyolo_v4.data.images import ImageReadError, channels_first, read_image, scale_image
from mindyolo_v4.errors import UserError, require_file, utf8_path
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.sections import DARKNET_SLOPE
from mindyolo_v4.models.topology import parameter_shapes, sections_of
from mindyolo_v4.weights.darknet_cfg import CfgNetwork, read_cfg
from mindyolo_v4.weights.darknet_file import open_weights

_SEED = 0
# darknet adds 1e-5 to the variance inside the root, OpenCV's reader of its files 1e-6. Our network
# runs with an epsilon lowered by as much, so that the conversion alone is compared.
_EPS_OF_DARKNET, _EPS_OF_OPENCV = 1e-5, 1e-6


def main(argv: Sequence[str]) -> int:
    """Print the largest difference of each output; return 1 where anything differs too much."""
    options = _parse(argv)
    checkpoint = Checkpoint.open(options.checkpoint)
    checkpoint.check_network(whole=True)
    card = checkpoint.card
    width = card.img_size if options.img_size is None else options.img_size
    height = (None if options.img_size else card.img_height) or width
    if min(width, height) < 32:
        raise UserError("--img_size", "out of range", width, ">= 32")
    if card.task == "detect" and (width % 32 or height % 32):
        raise UserError("--img_size", "not a multiple of 32", width)
    if not options.tolerance > 0:
        raise UserError("--tolerance", "must be positive", options.tolerance)
    image = make_image(width, height, options.image)
    cfg, weights = (Path(path) for path in options.darknet)
    return 0 if is_equal(checkpoint, cfg, weights, image, options.tolerance) else 1


def is_equal(
    checkpoint: Checkpoint, cfg: Path, weights: Path, image: NDArray[np.float32], tolerance: float
) -> bool:
    """Print the differences of a checkpoint from darknet files; tell whether all are small.

    Args:
        image: RGB input (1, 3, H, W) in [0, 1].
        tolerance: of the largest magnitude of an output.
    """
    card = checkpoint.card
    differing = list(differences(card, read_darknet(cfg, weights, card)))
    theirs = run_opencv(cfg, weights, image, card)
    ours = run_ours(checkpoint, image)
    # The boxes of the same raw outputs, so that exp does not magnify what differs in those.
    for raw, level in zip(theirs.values(), card.model.anchor_set.levels, strict=False):
        ours.append(all_boxes(raw, level))
    worst = largest_difference(dict(zip(theirs, ours, strict=True)), theirs)
    for text in differing:
        print(text)
    is_good = worst <= tolerance and not differing
    verdict = f"{'equal' if is_good else 'DIFFERENT'}: {worst:.2e}"
    height, width = image.shape[2:]
    print(f"{verdict}, tolerance {tolerance:g}, input {width} x {height}")
    return is_good


def largest_difference(found: Mapping[str, NDArray], expected: Mapping[str, NDArray]) -> float:
    """Print the largest difference of each output, and return the largest of all.

    Differences are parts of the largest magnitude of their output.
    """
    worst = 0.0
    for name, values in expected.items():
        largest = float(np.abs(values).max())
        difference = np.inf
        if found[name].shape == values.shape:
            difference = float(np.abs(found[name] - values).max())
        ratio = difference / largest if np.isfinite(difference) and largest > 0 else np.inf
        shape = "x".join(str(count) for count in values.shape)
        print(f"{name} {shape}: largest difference {difference:.3g} of {largest:.4g} = {ratio:.1e}")
        worst = max(worst, ratio)
    return worst


def differences(card: Card, described: CfgNetwork) -> Iterator[str]:
    """Yield a line for each property in which the network of a card differs from that of a cfg."""
    held, stated = (
        {
            "input size": input_text(network.img_size, network.img_height),
            "anchors": network.model.anchor_set.anchors_wh_px,
            "masks": [level.anchor_ids for level in network.model.anchor_set.levels],
            "scale_x_y": [level.scale_x_y for level in network.model.anchor_set.levels],
            "box decode": network.model.decode,
            "leaky slope": network.model.leaky_slope,
        }
        for network in (card, described)
    )
    for name, value in held.items():
        if value != stated[name]:
            yield f"{name}: {value} in the checkpoint, {stated[name]} in the cfg"


def _parse(argv: Sequence[str]) -> Namespace:
    description = (
        "Compare the outputs of a checkpoint with those of darknet files, which OpenCV's DNN runs."
    )
    program = command_for("convert verify")
    parser = Parser(program, description)
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", help="a checkpoint of ours")
    files = ("CFG", "WEIGHTS")
    add("--darknet", nargs=2, metavar=files, required=True, help="the darknet files")
    side_help = "input side, pixels (default: the checkpoint's)"
    add("--img_size", type=int, metavar="N", help=side_help)
    add("--image", metavar="FILE", help="input image (default: random numbers)")
    tolerance_help = "of the largest magnitude (default: 1e-4)"
    add("--tolerance", type=float, default=1e-4, help=tolerance_help)
    return parser.parse_args(argv)


def make_image(width: int, height: int, path: str | None) -> NDArray[np.float32]:
    """Return RGB input (1, 3, height, width) in [0, 1]: an image stretched, or random numbers."""
    if path is None:
        return np.random.default_rng(_SEED).random((1, 3, height, width), np.float32)
    try:
        image = scale_image(read_image(path), width, height)
    except ImageReadError as error:
        raise UserError(path, "no readable image") from error
    return channels_first(image)[None].astype(np.float32) / 255


def read_darknet(cfg: Path, weights: Path, card: Card) -> CfgNetwork:
    """Return what a cfg says. Raises UserError where the files are not of the card's network."""
    require_file(weights)
    described = read_cfg(cfg)
    model = described.model
    classes = len(card.class_names)
    if parameter_shapes(model, described.classes) != parameter_shapes(card.model, classes):
        theirs = f"{model.architecture}, {described.classes} classes, width {model.width:g}"
        held = f"{card.architecture}, {classes} classes, width {card.model.width:g}"
        raise UserError(cfg, "describes another network than the checkpoint's", theirs, held)
    file = open_weights(identify(weights))
    if not file.has_length_of(described.layers):  # OpenCV reads such files all the same
        raise UserError(weights, f"is not as long as the network of {cfg}", f"{file.bytes} bytes")
    return described


def run_opencv(
    cfg: Path, weights: Path, image: NDArray[np.float32], card: Card
) -> dict[str, NDArray]:
    """Return OpenCV's outputs by name: raw, in the order of our network's, then boxes in pixels.

    Raises:
        UserError: OpenCV cannot run the files.
    """
    if card.model.residual != "plain":
        raise UserError(
            cfg, "OpenCV ignores the weights of [shortcut]", card.model.residual, "plain"
        )
    raw = [f"conv_{idx}" for idx in output_sections(card)]
    boxes = [f"yolo_{idx + 1}" for idx in output_sections(card) if card.task == "detect"]
    try:
        network = cv2.dnn.readNetFromDarknet(utf8_path(cfg), utf8_path(weights))
        network.setInput(image)
        network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        network.enableFusion(False)
        outputs = dict(zip(raw + boxes, network.forward(raw + boxes), strict=True))
    except cv2.error as error:
        raise UserError(f"{cfg} {weights}", f"OpenCV cannot run it: {error.err}") from error
    height, width = image.shape[2:]
    size = np.array([width, height] * 2, np.float32)
    return outputs | {name: outputs[name][:, :4] * size for name in boxes}


def output_sections(card: Card) -> list[int]:
    """Return the cfg sections of the network's raw outputs, smallest stride first."""
    sections = sections_of(card.model, max(len(card.class_names), 1))
    layers = [section.layer for section in sections if section.layer]
    outputs = [layer for layer in layers if layer.is_output]
    return [layer.idx for layer in sorted(outputs, key=lambda layer: layer.name)]


def run_ours(checkpoint: Checkpoint, image: NDArray[np.float32]) -> list[NDArray]:
    """Return our raw outputs: for one image, the operators alone take less time than a graph."""
    ms.set_device("CPU")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    card = checkpoint.card
    bn_eps = card.model.bn_eps - _EPS_OF_DARKNET + _EPS_OF_OPENCV
    if bn_eps <= 0:
        problem = "cannot be compared with OpenCV, which adds 1e-6 to a variance"
        raise UserError("model.bn_eps", problem, card.model.bn_eps, "> 9e-06")
    # OpenCV knows one slope only; `differences` compares it.
    backbone = card.model.activations[0].removesuffix("001")
    model = replace(card.model, cpu_fused="off", bn_eps=bn_eps, leaky_slope=DARKNET_SLOPE)
    model = replace(model, backbone_activation=backbone)  # type: ignore[arg-type]
    network = build_network(model, len(card.class_names))
    checkpoint.load_weights(network)
    outputs = network.set_train(False)(ms.Tensor(image))
    if card.task == "classify":
        return [outputs.asnumpy()[:, :, None, None]]
    return [level.asnumpy() for level in outputs]


def all_boxes(raw_maps: NDArray, level: AnchorLevel) -> NDArray:
    """Decode the raw maps (1, A(5 + C), H, W) of a level to centre and size (H W A, 4), pixels."""
    anchors = np.array(level.anchors_wh_px, np.float32)
    rows, columns = raw_maps.shape[2:]
    split = raw_maps.reshape(len(anchors), -1, rows, columns)
    logits = split[:, :4].transpose(2, 3, 0, 1).reshape(-1, 4)
    row, column, anchor = np.indices((rows, columns, len(anchors))).reshape(3, -1)
    return decode_boxes(logits, column, row, anchors[anchor], level)

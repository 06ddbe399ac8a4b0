"""Proves a conversion with another engine: python -m convert.verify CKPT --darknet CFG WEIGHTS

OpenCV's DNN runs the darknet files, our network runs the checkpoint in graph mode; the raw outputs
and the decoded boxes are compared, and what the cfg and the card say of the network.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorLevel, decode_boxes
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.formats import identify
from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.data.images import ImageReadError, read_image, scale_image
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.topology import DARKNET_SLOPE, parameter_shapes, sections_of
from mindyolo_v4.weights.command import check_complete
from mindyolo_v4.weights.darknet_cfg import CfgNetwork, read_cfg
from mindyolo_v4.weights.darknet_file import open_weights
from mindyolo_v4.weights.files import read_own

_SEED = 0
# darknet adds 1e-5 to the variance inside the root, OpenCV's reader of its files 1e-6. Our network
# runs with an epsilon lowered by as much, so that the conversion alone is compared.
_EPS_OF_DARKNET, _EPS_OF_OPENCV = 1e-5, 1e-6


def main(argv: Sequence[str]) -> int:
    """Print the largest difference of each output; return 1 where anything differs too much."""
    options = _parse(argv)
    checkpoint = Checkpoint.open(options.checkpoint)
    check_complete(read_own(checkpoint))
    card = checkpoint.card
    side = options.img_size
    width, height = (side, side) if side is not None else (card.img_size, card.img_height)
    height = height or width
    if min(width, height) < 32 or width % 32 or height % 32:
        raise UserError("--img_size", "not a multiple of 32", width)
    if not options.tolerance > 0:
        raise UserError("--tolerance", "must be positive", options.tolerance)
    image = make_image(width, height, options.image)
    cfg, weights = (Path(path) for path in options.darknet)
    described = read_darknet(cfg, weights, card)
    theirs = run_opencv(cfg, weights, image, card)
    ours = run_ours(checkpoint, image)
    if card.task == "detect":
        ours |= decoded(card, list(ours.values()))
    worst = 0.0
    for name, expected in theirs.items():
        largest = float(np.abs(expected).max())
        difference = float(np.abs(ours[name] - expected).max())
        is_comparable = np.isfinite(difference) and largest > 0
        ratio = difference / largest if is_comparable else float("inf")
        worst = max(worst, ratio)
        shape = "x".join(str(count) for count in expected.shape)
        print(f"{name} {shape}: largest difference {difference:.3g} of {largest:.4g} = {ratio:.2e}")
    differing = list(differences(card, described))
    for text in differing:
        print(text)
    is_equal = worst <= options.tolerance and not differing
    tolerance = f"tolerance {options.tolerance:g}, input {width} x {height}"
    print(f"{'equal' if is_equal else 'DIFFERENT'}: {worst:.2e}, {tolerance}")
    return 0 if is_equal else 1


def differences(card: Card, described: CfgNetwork) -> Iterator[str]:
    """Yield a line for each property of the network in which card and cfg differ."""
    cards, cfgs = card.model.anchor_set, described.model.anchor_set
    properties = (
        ("input size", card.input_text, described.input_text),
        ("anchors", cards.anchors_wh_px, cfgs.anchors_wh_px),
        *(
            (f"{name} of stride {one.stride}", getattr(one, key), getattr(other, key))
            for one, other in zip(cards.levels, cfgs.levels, strict=True)
            for name, key in (("mask", "anchor_ids"), ("scale_x_y", "scale_x_y"))
        ),
        ("box_decode", card.model.box_decode, described.model.box_decode),
        ("leaky slope", card.model.leaky_slope, described.model.leaky_slope),
    )
    for name, ours, theirs in properties:
        if ours != theirs:
            yield f"{name}: {ours} in the checkpoint, {theirs} in the cfg"


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Parser(prog="python -m convert.verify", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", help="a checkpoint of ours")
    files = ("CFG", "WEIGHTS")
    add("--darknet", nargs=2, metavar=files, required=True, help="the darknet files")
    side_help = "input side, pixels (default: the checkpoint's)"
    add("--img_size", type=int, metavar="N", help=side_help)
    add("--image", metavar="FILE", help="input image (default: random numbers)")
    tolerance_help = "of the largest magnitude (default 1e-4)"
    add("--tolerance", type=float, default=1e-4, help=tolerance_help)
    return parser.parse_args(list(argv))


def make_image(width: int, height: int, path: str | None) -> NDArray[np.float32]:
    """Return RGB input (1, 3, height, width) in [0, 1]: an image stretched, or random numbers."""
    if path is None:
        return np.random.default_rng(_SEED).random((1, 3, height, width), np.float32)
    try:
        image = scale_image(read_image(path), width, height)
    except ImageReadError as error:
        raise UserError(path, "no readable image") from error
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255


def read_darknet(cfg: Path, weights: Path, card: Card) -> CfgNetwork:
    """Return what a cfg says.

    Raises:
        UserError: the files are no darknet files of a network with the card's parameters.
    """
    for path in (cfg, weights):
        if not path.is_file():
            raise UserError(path, "no such file")
    described = read_cfg(cfg)
    file = open_weights(identify(weights))
    model = described.model
    classes = len(card.class_names)
    if parameter_shapes(model, described.classes) != parameter_shapes(card.model, classes):
        theirs = f"{model.architecture}, {described.classes} classes, width {model.width:g}"
        held = f"{card.architecture}, {classes} classes, width {card.model.width:g}"
        raise UserError(cfg, "describes another network than the checkpoint's", theirs, held)
    if not file.has_length_of(described.layers):  # OpenCV reads such files all the same
        raise file.misfit(described, card.class_names)
    return described


def run_opencv(
    cfg: Path, weights: Path, image: NDArray[np.float32], card: Card
) -> dict[str, NDArray]:
    """Return OpenCV's outputs by name: raw, in the order of our network's, then boxes in pixels.

    Raises:
        UserError: OpenCV cannot run the files.
    """
    try:
        network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
        raw, boxes = output_sections(card)
        network.setInput(image)
        network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        network.enableFusion(False)
        outputs = network.forward([f"conv_{idx}" for idx in raw] + [f"yolo_{idx}" for idx in boxes])
    except cv2.error as error:
        raise UserError(f"{cfg} {weights}", f"OpenCV cannot run it: {error.err}") from error
    height, width = image.shape[2:]
    found = dict(zip((f"conv_{idx}" for idx in raw), outputs, strict=False))
    for idx, rows in zip(boxes, outputs[len(raw) :], strict=True):
        found[f"boxes_{idx}"] = rows[:, :4] * np.array([width, height, width, height], np.float32)
    return found


def output_sections(card: Card) -> tuple[list[int], list[int]]:
    """Return the cfg sections of raw outputs and of their decoding, smallest stride first."""
    sections = sections_of(card.model, max(len(card.class_names), 1))
    layers = [section.layer for section in sections if section.layer]
    outputs = [layer for layer in layers if layer.kind != "norm"]
    raw = [layer.idx for layer in sorted(outputs, key=lambda layer: layer.name)]
    return raw, [idx + 1 for idx in raw] if card.task == "detect" else []


def run_ours(checkpoint: Checkpoint, image: NDArray[np.float32]) -> dict[str, NDArray]:
    """Return our raw outputs, computed in graph mode, by OpenCV's names."""
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    card = checkpoint.card
    bn_eps = card.model.bn_eps - _EPS_OF_DARKNET + _EPS_OF_OPENCV
    # OpenCV knows one slope only; `differences` compares it.
    backbone = "leaky" if card.model.activations[0] == "leaky001" else card.model.activations[0]
    computed = {"bn_eps": bn_eps, "leaky_slope": DARKNET_SLOPE, "backbone_activation": backbone}
    model = replace(card.model, cpu_fused="off", **computed)  # type: ignore[arg-type]
    network = build_network(model, len(card.class_names))
    checkpoint.load_weights(network)
    outputs = network.set_train(False)(ms.Tensor(image))
    raw = [outputs[:, :, None, None]] if card.task == "classify" else outputs
    names = (f"conv_{idx}" for idx in output_sections(card)[0])
    return {name: level.asnumpy() for name, level in zip(names, raw, strict=True)}


def decoded(card: Card, raw_maps: list[NDArray]) -> dict[str, NDArray]:
    """Return all boxes, centre and size in pixels (N, 4), of raw maps by OpenCV's names."""
    levels = card.model.anchor_set.levels
    names = (f"boxes_{idx}" for idx in output_sections(card)[1])
    return {
        name: _all_boxes(raw[0], level)
        for name, raw, level in zip(names, raw_maps, levels, strict=True)
    }


def _all_boxes(raw_map: NDArray, level: AnchorLevel) -> NDArray:
    """Decode a raw map (A(5 + C), H, W) by row, column and anchor, as OpenCV orders boxes."""
    anchors = np.array(level.anchors_wh_px, np.float32)
    channels, rows, columns = raw_map.shape
    split = raw_map.reshape(len(anchors), channels // len(anchors), rows, columns)
    logits = split[:, :4].transpose(2, 3, 0, 1).reshape(-1, 4)
    row, column, anchor = np.indices((rows, columns, len(anchors))).reshape(3, -1)
    return decode_boxes(logits, column, row, anchors[anchor], level)

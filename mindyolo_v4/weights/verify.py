"""Proves a conversion with another engine: python -m convert.verify CKPT --darknet CFG WEIGHTS

OpenCV's DNN runs the darknet files, our network runs the checkpoint in graph mode, and the raw
outputs are compared.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.formats import identify
from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.data.images import ImageReadError, read_image, scale_image
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.build import build_network
from mindyolo_v4.weights.command import check_complete
from mindyolo_v4.weights.darknet_cfg import read_cfg
from mindyolo_v4.weights.darknet_file import open_weights
from mindyolo_v4.weights.files import read_own
from mindyolo_v4.weights.topology import parameter_shapes, sections_of

_SEED = 0
# darknet adds 1e-5 to the variance inside the root, OpenCV's reader of its files 1e-6. Our network
# runs with an epsilon lowered by as much, so that the conversion alone is compared.
_EPS_OF_DARKNET, _EPS_OF_OPENCV = 1e-5, 1e-6


def main(argv: Sequence[str]) -> int:
    """Print the largest difference of each output; return 1 where one is above the tolerance."""
    options = _parse(argv)
    checkpoint = Checkpoint.open(options.checkpoint)
    check_complete(read_own(checkpoint))
    side = checkpoint.card.img_size if options.img_size is None else options.img_size
    if side < 32 or side % 32:
        raise UserError("--img_size", "not a multiple of 32", side)
    if not options.tolerance > 0:
        raise UserError("--tolerance", "must be positive", options.tolerance)
    image = make_image(side, options.image)
    cfg, weights = (Path(path) for path in options.darknet)
    theirs = run_opencv(cfg, weights, image, checkpoint.card)
    worst = 0.0
    for (name, expected), ours in zip(theirs.items(), run_ours(checkpoint, image), strict=True):
        if ours.shape != expected.shape:
            problem = f"its output {name} is of another shape"
            raise UserError(cfg, problem, expected.shape, ours.shape)
        largest = float(np.abs(expected).max())
        difference = float(np.abs(ours - expected).max())
        is_comparable = np.isfinite(difference) and largest > 0
        ratio = difference / largest if is_comparable else float("inf")
        worst = max(worst, ratio)
        shape = "x".join(str(count) for count in expected.shape)
        print(f"{name} {shape}: largest difference {difference:.3g} of {largest:.4g} = {ratio:.2e}")
    verdict = "equal" if worst <= options.tolerance else "DIFFERENT"
    print(f"{verdict}: {worst:.2e}, tolerance {options.tolerance:g}, input {side} x {side}")
    return 0 if worst <= options.tolerance else 1


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


def make_image(side: int, path: str | None) -> NDArray[np.float32]:
    """Return RGB input (1, 3, side, side) in [0, 1]: an image stretched, or random numbers."""
    if path is None:
        return np.random.default_rng(_SEED).random((1, 3, side, side), np.float32)
    try:
        image = scale_image(read_image(path), side, side)
    except ImageReadError as error:
        raise UserError(path, "no readable image") from error
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255


def run_opencv(
    cfg: Path, weights: Path, image: NDArray[np.float32], card: Card
) -> dict[str, NDArray]:
    """Return OpenCV's raw outputs by layer name, in the order of our network's.

    Raises:
        UserError: the files are no darknet files of the card's network, or OpenCV cannot run them.
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
    try:
        network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
        names = [f"conv_{idx}" for idx in output_sections(card)]
        network.setInput(image)
        network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        network.enableFusion(False)
        outputs = network.forward(names)
    except cv2.error as error:
        raise UserError(f"{cfg} {weights}", f"OpenCV cannot run it: {error.err}") from error
    return dict(zip(names, outputs, strict=True))


def output_sections(card: Card) -> list[int]:
    """Return the cfg sections of the network's raw outputs, smallest stride first."""
    sections = sections_of(card.model, max(len(card.class_names), 1))
    layers = [section.layer for section in sections if section.layer]
    outputs = [layer for layer in layers if layer.kind != "norm"]
    return [layer.idx for layer in sorted(outputs, key=lambda layer: layer.name)]


def run_ours(checkpoint: Checkpoint, image: NDArray[np.float32]) -> list[NDArray]:
    """Return our raw outputs, computed in graph mode."""
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    card = checkpoint.card
    bn_eps = card.model.bn_eps - _EPS_OF_DARKNET + _EPS_OF_OPENCV
    network = build_network(
        replace(card.model, cpu_fused="off", bn_eps=bn_eps), len(card.class_names)
    )
    checkpoint.load_weights(network)
    outputs = network.set_train(False)(ms.Tensor(image))
    if card.task == "classify":
        return [outputs.asnumpy()[:, :, None, None]]
    return [level.asnumpy() for level in outputs]

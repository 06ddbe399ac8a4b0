"""Proves a conversion with another engine: python -m convert.verify CKPT --darknet CFG WEIGHTS

OpenCV's DNN runs the darknet files, our network runs the checkpoint in graph mode, and the raw outputs are compared.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.build import build_network
from mindyolo_v4.weights.command import check_complete
from mindyolo_v4.weights.darknet_cfg import read_cfg
from mindyolo_v4.weights.darknet_file import open_weights
from mindyolo_v4.weights.files import Own, read_own
from mindyolo_v4.weights.topology import layers_of, parameter_shapes, sections_of

_SEED = 0
# darknet adds 1e-5 to the variance inside the root, OpenCV's reader of its files 1e-6. Our network runs with epsilon
# lowered by as much, so that what is compared is the conversion and not this difference.
_EPS_OF_DARKNET, _EPS_OF_OPENCV = 1e-5, 1e-6


def main(argv: Sequence[str]) -> int:
    """Compare, print the largest difference of each output, and return 1 where one is above the tolerance."""
    parser = Parser(prog="python -m convert.verify", description=__doc__, allow_abbrev=False)
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint of ours")
    parser.add_argument(
        "--darknet", nargs=2, metavar=("CFG", "WEIGHTS"), required=True, help="the darknet files"
    )
    parser.add_argument(
        "--img_size", type=int, metavar="N", help="input side, pixels (default: the checkpoint's)"
    )
    parser.add_argument(
        "--image", metavar="FILE", help="picture to look at (default: random numbers)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, help="of the largest magnitude (default 1e-4)"
    )
    options = parser.parse_args(list(argv))
    own = read_own(options.checkpoint)
    check_complete(own)
    side = own.card.img_size if options.img_size is None else options.img_size
    if side < 32 or side % 32:
        raise UserError("--img_size", "not a multiple of 32", side)
    if not options.tolerance > 0:
        raise UserError("--tolerance", "must be positive", options.tolerance)
    image = make_image(side, options.image)
    theirs = run_opencv(*(Path(path) for path in options.darknet), image, own)
    ours = run_ours(options.checkpoint, own.card, image)
    worst = 0.0
    for (name, expected), found in zip(theirs.items(), ours, strict=True):
        if found.shape != expected.shape:
            raise UserError(
                options.darknet[0],
                f"its output {name} is of another shape",
                expected.shape,
                found.shape,
            )
        magnitude = float(np.abs(expected).max())
        difference = float(np.abs(found - expected).max())
        ratio = (
            difference / magnitude if np.isfinite(difference) and magnitude > 0 else float("inf")
        )
        worst = max(worst, ratio)
        shape = "x".join(str(count) for count in expected.shape)
        print(
            f"{name} {shape}: largest difference {difference:.3g} of {magnitude:.4g} = {ratio:.2e}"
        )
    verdict = "equal" if worst <= options.tolerance else "DIFFERENT"
    print(f"{verdict}: {worst:.2e}, tolerance {options.tolerance:g}, input {side} x {side}")
    return 0 if worst <= options.tolerance else 1


def make_image(side: int, path: str | None) -> NDArray[np.float32]:
    """Return network input (1, 3, side, side) in [0, 1], RGB: a picture stretched, or random numbers."""
    if path is None:
        return np.random.default_rng(_SEED).random((1, 3, side, side), np.float32)
    picture = cv2.imread(path, cv2.IMREAD_COLOR) if Path(path).is_file() else None
    if picture is None:
        raise UserError(path, "no readable picture")
    resized = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), (side, side))
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def run_opencv(
    cfg: Path, weights: Path, image: NDArray[np.float32], own: Own
) -> dict[str, NDArray]:
    """Return OpenCV's raw outputs by layer name, in the order of our network's.

    Raises:
        UserError: the files are no darknet files of one of our networks, or OpenCV cannot run them.
    """
    for path in (cfg, weights):
        if not path.is_file():
            raise UserError(path, "no such file")
    described, file = read_cfg(cfg), open_weights(weights)
    card, classes = own.card, len(own.card.class_names)
    if parameter_shapes(described.model, described.classes) != parameter_shapes(
        card.model, classes
    ):
        what = f"{described.model.architecture}, {described.classes} classes, width {described.model.width:g}"
        held = f"{card.architecture}, {classes} classes, width {card.model.width:g}"
        raise UserError(cfg, "describes another network than the checkpoint's", what, held)
    if not file.has_length_of(
        layers_of(described.model, described.classes)
    ):  # OpenCV reads such files all the same
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
    found = [
        section.layer for section in sections if section.layer and section.layer.kind != "norm"
    ]
    return [layer.idx for layer in sorted(found, key=lambda layer: layer.name)]


def run_ours(path: str, card: Card, image: NDArray[np.float32]) -> list[NDArray]:
    """Return our raw outputs, computed in graph mode."""
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    bn_eps = card.model.bn_eps - _EPS_OF_DARKNET + _EPS_OF_OPENCV
    model, classes = replace(card.model, cpu_fused="off", bn_eps=bn_eps), len(card.class_names)
    is_detector = card.architecture != "cspdarknet53"
    network = build_network(model, classes)
    Checkpoint.open(path).load_weights(network)
    network.set_train(False)
    outputs = network(ms.Tensor(image))
    if not is_detector:
        return [outputs.asnumpy()[:, :, None, None]]
    return [level.asnumpy() for level in outputs]

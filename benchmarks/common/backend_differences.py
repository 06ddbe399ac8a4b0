"""How far each back-end of a checkpoint is from MindSpore's network, on a drawn picture.

python -m benchmarks.common.backend_differences --weight W --img_size N

Prints a JSON object: back-end -> largest difference of the raw maps or logits (share of the largest
magnitude) and, of a detector, of all boxes (pixels, cut off at the input's edges) and scores.
"""

import argparse
import json
import sys

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.data.images import channels_first, fit_image
from mindyolo_v4.deploy.backends import FOREIGN, Maps
from mindyolo_v4.deploy.compare import decoded_outputs
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.tools.benchmark_backends import largest_difference
from mindyolo_v4.tools.make_scenes import draw_scene

_SCENE_PX = 640


def main() -> int:
    """Compare the back-ends and print the result."""
    parser = argparse.ArgumentParser("python -m benchmarks.common.backend_differences")
    parser.add_argument("--weight", required=True)
    parser.add_argument("--img_size", type=int, required=True)
    options = parser.parse_args()
    # One image needs no compiled graph.
    at_once = {"ms_mode": "pynative", "device_target": "CPU"}
    reference = Predictor(options.weight, "mindspore", img_size=options.img_size, settings=at_once)
    picture, _, _ = draw_scene(np.random.default_rng(0), _SCENE_PX)
    images = channels_first(fit_image(picture, reference.config.data))[None]
    expected = reference.backend(images)
    result = {}
    for name in FOREIGN:
        backend = Predictor(options.weight, name, img_size=options.img_size).backend
        anchors = reference.config.model.anchor_set
        result[name] = differences(backend(images), expected, anchors, images)
    print(json.dumps(result))
    return 0


def differences(
    found: Maps, expected: Maps, anchors: AnchorSet, images: NDArray[np.uint8]
) -> dict[str, float]:
    """Return the largest difference of each quantity."""
    result = {"maps": largest_difference(found, expected)}
    if anchors.levels:
        ours, theirs = (decoded_outputs(maps, anchors) for maps in (found, expected))
        height, width = images.shape[2:]
        edges = np.array([width, height, width, height])
        boxes = [np.clip(one["boxes"], 0, edges) for one in (ours, theirs)]
        result["boxes_px"] = float(np.abs(boxes[0] - boxes[1]).max())
        result["scores"] = float(np.abs(ours["scores"] - theirs["scores"]).max())
    return result


if __name__ == "__main__":
    sys.exit(main())

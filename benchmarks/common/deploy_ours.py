"""A checkpoint in our fastest back-end, in this process; prints one JSON object.

python -m benchmarks.common.deploy_ours --weight W --img_size N --image FILE

second_s: the second call of a Predictor with the file; step_s: the network alone, on that image;
lowest_score: of the detections.
"""

import argparse
import json
import sys
import time

from benchmarks.common.clock import time_calls
from mindyolo_v4.data.images import channels_first, fit_image, read_image
from mindyolo_v4.deploy.predictor import Predictor


def main() -> int:
    """Measure and print the result."""
    parser = argparse.ArgumentParser("python -m benchmarks.common.deploy_ours")
    parser.add_argument("--weight", required=True)
    parser.add_argument("--img_size", type=int, required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--conf_thres", type=float, default=0.25)
    parser.add_argument("--max_det", type=int, default=300)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    predictor = Predictor(
        options.weight,
        conf_thres=options.conf_thres,
        img_size=options.img_size,
        settings={"evaluate.max_det": options.max_det},
    )
    predictor(options.image)
    started_s = time.perf_counter()
    found = predictor(options.image)
    second_s = time.perf_counter() - started_s

    data = predictor.config.data
    image = read_image(options.image, data.max_megapixels)
    images = channels_first(fit_image(image, data))[None]
    timed = time_calls(lambda: predictor.backend(images), options.steps)
    about = {
        "backend": predictor.backend.name,
        "objects": len(found),
        "lowest_score": float(found.scores.min(initial=1.0)),
    }
    print(json.dumps({**timed, **about, "second_s": second_s}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

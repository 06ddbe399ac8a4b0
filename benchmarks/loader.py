"""The input pipeline in images per second of one core, against ultralytics' own YOLODataset.

608 pixels, COCO's first 128 pictures, mosaic, mixup 0.1, translation, zoom, HSV and flips of the
same strengths, no albumentations in either; threads of OpenCV and PyTorch off. A sample is a uint8
image, channels first, and its boxes; ours includes the target tables of the loss. Neither keeps a
decoded image for longer than its neighbours need it: ours decodes each about once per epoch
(printed), the peer once, and again where mixup draws an image from afar.

--steps is the number of timed passes over the pictures, after one that warms up. Every measurement
is a process of its own. Images per core second are compared, that is per second of CPU time of all
processes of a measurement, since other load on the machine hardly changes it; images per second are
printed beside it. Bounds are the smallest ratios that pass. The second figure compares our samples
in MindData's processes, batched, with our plain loop.
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.common.measure import (
    add_data_dir,
    compare,
    data_folder,
    in_turns,
    make_parser,
    option_words,
    run_json,
    run_module,
)
from benchmarks.common.report import pairs_figure
from benchmarks.peers.environments import peer_folder, peer_python

BOUND = 1.1
WORKERS_BOUND = 0.9
STRENGTHS = {
    "translate": 0.1,
    "scale": 0.9,
    "mixup": 0.1,
    "hue": 0.015,
    "saturation": 0.7,
    "value": 0.4,
    "flip": 0.5,
}


def main() -> int:
    """Measure every size; return 1 where a bound is missed."""
    parser = make_parser("benchmarks.loader", __doc__, img_size=(608,), batch=16, pairs=3, steps=3)
    add_data_dir(parser, "datasets/coco128")
    options = parser.parse_args()
    data_dir = data_folder(options)
    python = peer_python("ultralytics")
    kept = True
    for size in options.img_size:
        common = {"img_size": size, "steps": options.steps, "data_dir": data_dir}
        ours = {**common, "batch": options.batch}
        print(f"{size} px, images per core second:", flush=True)
        values = in_turns(
            {
                "ours": lambda ours=ours: our_rate("plain", ours),
                "ultralytics": lambda common=common: peer_rate(python, common),
                "workers": lambda ours=ours: our_rate("workers", ours),
            },
            options.pairs,
        )
        compared = compare(values["ours"], values["ultralytics"])
        kept &= pairs_figure(f"loader_{size}", compared, BOUND, at_least=True)
        compared = compare(values["workers"], values["ours"])
        name = f"loader_{size}_workers"
        kept &= pairs_figure(name, compared, WORKERS_BOUND, at_least=True)
    return 0 if kept else 1


def our_rate(mode: str, settings: dict[str, object]) -> float:
    """Measure the plain loop, or MindData's processes, in images per core second."""
    result = run_module("common.loader_ours", mode, **settings, strengths=json.dumps(STRENGTHS))
    print(f"  {mode}: {result['images_per_second']:.4g} images per second and process", flush=True)
    print(
        f"  {mode}: {result['decodes']:.2f} decodes per sample, "
        f"peak memory of a process {result['peak_gb']:.3g} GB",
        flush=True,
    )
    return result["images_per_core_second"]


def peer_rate(python: Path, common: dict[str, object]) -> float:
    """Measure ultralytics on a copy of the data, since it writes a cache file beside the labels."""
    variables = {"YOLO_CONFIG_DIR": str(peer_folder()), "YOLO_OFFLINE": "true"}
    with tempfile.TemporaryDirectory() as folder:
        options = {**common, "strengths": json.dumps(STRENGTHS), "scratch": folder}
        command = [python, "-m", "benchmarks.peers.loader_ultralytics", *option_words(options)]
        result = run_json(command, variables)
    print(f"  ultralytics: {result['images_per_second']:.4g} images per second", flush=True)
    return result["images_per_core_second"]


if __name__ == "__main__":
    sys.exit(main())

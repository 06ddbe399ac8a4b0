"""The input pipeline in images a second of one core, against ultralytics' own YOLODataset.

608 pixels, COCO's first 128 pictures, mosaic, mixup 0.1, translation, zoom, HSV and flips of the same strengths, no
albumentations in either; threads of OpenCV and PyTorch off. A sample is a uint8 image, channels first, and its boxes,
of ours also the target tables of the loss. Neither keeps a decoded image for longer than its neighbours need it: ours
decodes each about once an epoch (printed), the peer once and again where mixup draws an image from afar.
--steps is the number of timed passes over the pictures, after one that warms up. Every measurement is a process of its
own. Compared are images a core second, that is of the CPU time of all processes of a measurement, since other load on
the machine hardly changes it; images a second are printed beside it. Bounds are the smallest ratios that pass. The
second figure: our samples in MindData's processes, batched, against our plain loop.
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import compare, in_turns, parser, run_json, run_module
from benchmarks.peers import peer_folder, peer_python
from benchmarks.report import figure

BOUND, WORKERS_BOUND = 1.1, 0.9
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
    made = parser("benchmarks.loader", __doc__, img_size=(608,), batch=16, pairs=3, steps=3)
    made.add_argument(
        "--data_dir", default="datasets/coco128", help="folder of the data set (%(default)s)"
    )
    options = made.parse_args()
    data_dir = Path(options.data_dir).absolute()
    if not data_dir.is_dir():
        raise SystemExit(f"--data_dir: there is no folder {data_dir}")
    python, kept = peer_python("ultralytics"), True
    for size in options.img_size:
        common = {
            "img_size": size,
            "steps": options.steps,
            "batch": options.batch,
            "data_dir": data_dir,
        }
        print(f"{size} px, images a core second:", flush=True)
        taken = in_turns(
            {
                "ours": lambda common=common: our_rate("plain", common),
                "ultralytics": lambda common=common: peer_rate(python, common),
                "workers": lambda common=common: our_rate("workers", common),
            },
            options.pairs,
        )
        found = compare(taken["ours"], taken["ultralytics"])
        kept &= figure(
            f"loader_{size}", found.ours, BOUND, found.peer, ratio=found.ratio, at_least=True
        )
        found = compare(taken["workers"], taken["ours"])
        name = f"loader_{size}_workers"
        kept &= figure(
            name, found.ours, WORKERS_BOUND, found.peer, ratio=found.ratio, at_least=True
        )
    return 0 if kept else 1


def our_rate(mode: str, common: dict[str, object]) -> float:
    """Measure the plain loop, or the stream with MindData's processes, in images a core second."""
    found = run_module("loader_ours", mode, **common, strengths=json.dumps(STRENGTHS))
    decodes, peak = found["decodes"], found["peak_gb"]
    print(
        f"  {mode}: {found['images_per_second']:.4g} images a second and process that makes them",
        flush=True,
    )
    print(
        f"  {mode}: {decodes:.2f} decodes a sample, peak memory of a process {peak:.3g} GB",
        flush=True,
    )
    return found["images_per_core_second"]


def peer_rate(python: Path, common: dict[str, object]) -> float:
    """Measure ultralytics on a copy of the data, since it writes a cache file beside the labels."""
    variables = {"YOLO_CONFIG_DIR": str(peer_folder()), "YOLO_OFFLINE": "true"}
    with tempfile.TemporaryDirectory() as folder:
        options = {name: value for name, value in common.items() if name != "batch"}
        options |= {"strengths": json.dumps(STRENGTHS), "scratch": folder}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        found = run_json([python, "-m", "benchmarks.loader_ultralytics", *words], variables)
    print(f"  ultralytics: {found['images_per_second']:.4g} images a second", flush=True)
    return found["images_per_core_second"]


if __name__ == "__main__":
    sys.exit(main())

"""One measurement of ultralytics' YOLODataset, run by its own environment; see benchmarks.loader.

It keeps the last 8 batches of decoded images for the mosaic's partners. At a usual batch these
would be all 128 pictures, and nothing would be decoded any more: a small batch leaves it one decode
a sample, as on any real data set.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import cv2
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset

BATCH = 2


def main() -> int:
    """Measure and print images per second and per core second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="the data set is copied here")
    parser.add_argument("--strengths", type=json.loads, required=True)
    parser.add_argument("--img_size", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for part in ("images", "labels"):
        shutil.copytree(options.data_dir / part / "train2017", options.scratch / part / "train2017")
    samples = dataset(options)
    for index in range(len(samples)):
        samples[index]
    started = time.perf_counter()
    cores_from = time.process_time()
    for _ in range(options.steps):
        for index in range(len(samples)):
            samples[index]
    seconds = time.perf_counter() - started
    cores = time.process_time() - cores_from
    count = options.steps * len(samples)
    rates = {"images_per_second": count / seconds, "images_per_core_second": count / cores}
    print(json.dumps(rates))
    return 0


def dataset(options: argparse.Namespace) -> YOLODataset:
    """Return the data set with its training augmentations at the strengths given."""
    strengths = options.strengths
    off = dict.fromkeys(
        ("degrees", "shear", "perspective", "flipud", "bgr", "copy_paste", "cutmix"), 0.0
    )
    on = {
        "mosaic": 1.0,
        "mixup": strengths["mixup"],
        "translate": strengths["translate"],
        "scale": strengths["scale"],
        "hsv_h": strengths["hue"],
        "hsv_s": strengths["saturation"],
        "hsv_v": strengths["value"],
        "fliplr": strengths["flip"],
    }
    return YOLODataset(
        img_path=str(options.scratch / "images" / "train2017"),
        imgsz=options.img_size,
        batch_size=BATCH,
        augment=True,
        hyp=get_cfg(overrides={**off, **on, "augmentations": []}),
        data={"names": {number: str(number) for number in range(80)}, "nc": 80, "channels": 3},
        prefix="",
    )


if __name__ == "__main__":
    sys.exit(main())

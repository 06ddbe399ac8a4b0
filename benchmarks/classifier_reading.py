"""Milliseconds to read, crop, mirror and lay out a training image of 224 pixels, in four ways.

python -m benchmarks.classifier_reading --images datasets/coco128/images/train2017

    ours      what training does: OpenCV, the crop drawn from (seed, epoch, index)
    eager     MindData's C++ operations called one by one, on the crop that we draw
    pipeline  a MindData pipeline in C++, whose crops are its own draws
    pil       Pillow, as torchvision reads

The figure is in milliseconds per image. The bound: no more than 1.05 times the faster of `eager`
and `pil`, the other two whose samples are a function of seed, epoch and index.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import vision
from PIL import Image

from benchmarks.common.measure import make_parser
from benchmarks.common.report import figure
from mindyolo_v4.config.data import AugmentConfig, ClassifyConfig, DataConfig
from mindyolo_v4.data.augment.rectangles import draw_crop
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import read_encoded
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples

SIZE = 224
DATA = DataConfig(
    format="imagenet", img_size=SIZE, resize="crop", augment=AugmentConfig(flip_prob=0.5)
)
CROP = ClassifyConfig()
Reader = Callable[[int, int], np.ndarray]  # epoch, index -> uint8 (3, S, S)


def main(argv: Sequence[str]) -> int:
    """Measure the four ways in turn, several rounds, and compare their medians."""
    parser = make_parser("benchmarks.classifier_reading", __doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder of JPEG files")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    paths = sorted(
        path for path in arguments.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    )
    if not paths:
        parser.error(f"{arguments.images} holds no JPEG files")
    cv2.setNumThreads(1)
    ds.config.set_num_parallel_workers(1)
    names = np.array([path.name.encode() for path in paths])
    images = ClassImages(
        paths[0].parent, names, np.zeros(len(names), np.int32), ("image",), str(arguments.images)
    )
    samples = ClassTrainSamples(images, DATA, seed=0)
    readers: dict[str, Reader] = {
        "ours": lambda epoch, index: _chw(samples.sample_with_notes(epoch, index)[0].image),
        "eager": lambda epoch, index: _eager(images, epoch, index),
        "pil": lambda epoch, index: _pillow(images, epoch, index),
    }
    speeds: dict[str, list[float]] = {name: [] for name in (*readers, "pipeline")}
    for epoch in range(arguments.rounds + 1):  # the first round fills caches
        for name, reader in readers.items():
            began = time.process_time()
            for index in range(len(images)):
                assert reader(epoch, index).shape == (3, SIZE, SIZE)
            speeds[name].append(len(images) / (time.process_time() - began))
        speeds["pipeline"].append(_pipeline(images, epoch))
    medians = {name: statistics.median(values[1:]) for name, values in speeds.items()}
    print(f"{len(images)} pictures, {arguments.rounds} rounds, images/s of processor time:")
    for name, value in sorted(medians.items(), key=lambda pair: -pair[1]):
        print(f"  {name:<9}{value:8.1f}")
    best_ms = 1000 / max(medians["eager"], medians["pil"])
    kept = figure("classifier_reading_ms_per_image", 1000 / medians["ours"], 1.05, best_ms)
    return 0 if kept else 1


def _chw(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _eager(images: ClassImages, epoch: int, index: int) -> np.ndarray:
    rng = np.random.default_rng((0, epoch, index))
    image = vision.Decode()(read_encoded(images.path(index)))
    left, top, width, height = draw_crop(rng, image.shape[1], image.shape[0], CROP.area, CROP.ratio)
    image = vision.Resize((SIZE, SIZE))(vision.Crop((top, left), (height, width))(image))
    return vision.HWC2CHW()(vision.HorizontalFlip()(image) if rng.random() < 0.5 else image)


def _pillow(images: ClassImages, epoch: int, index: int) -> np.ndarray:
    rng = np.random.default_rng((0, epoch, index))
    with Image.open(images.path(index)) as file:
        image = file.convert("RGB")
    left, top, width, height = draw_crop(rng, image.width, image.height, CROP.area, CROP.ratio)
    box = (left, top, left + width, top + height)
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _chw(np.asarray(image))


def _pipeline(images: ClassImages, epoch: int) -> float:
    """Return images per second of processor time of MindData's own pipeline with its threads."""
    ds.config.set_seed(epoch)
    rows = ds.NumpySlicesDataset({"index": np.arange(len(images))}, shuffle=False)
    rows = rows.map(lambda index: read_encoded(images.path(int(index))), ["index"], ["image"])
    crop = vision.RandomCropDecodeResize(SIZE)
    rows = rows.map([crop, vision.RandomHorizontalFlip(), vision.HWC2CHW()], ["image"])
    iterator = rows.create_tuple_iterator(num_epochs=1, output_numpy=True)
    began = time.process_time()
    for (image,) in iterator:
        assert image.shape == (3, SIZE, SIZE)
    return len(images) / (time.process_time() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One measurement of our input pipeline, in this process; `benchmarks.loader` starts it.

plain: samples made one after the other, with their target tables. workers: the training stream with
MindData's processes, timed after the first pass. Both give images per second (for each process that
makes samples) and images a core second, that is per second of CPU time of all processes.
"""

import argparse
import json
import resource
import sys
import time

import cv2
import psutil

from benchmarks.common.made_batch import make_assigner, recipe
from benchmarks.common.measure import make_parser
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import channels_first
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.distributed.ranks import Ranks

SEED = 2
MANY_EPOCHS = 1000  # far from the last ones, which some recipes train without mosaic


def main() -> int:
    """Measure as the command line says and print the result."""
    parser = make_parser("benchmarks.common.loader_ours", __doc__, img_size=608, batch=16, steps=3)
    parser.add_argument("mode", choices=("plain", "workers"))
    parser.add_argument("--data_dir", required=True)
    parser.add_argument(
        "--strengths", type=json.loads, required=True, help="JSON object, see benchmarks.loader"
    )
    options = parser.parse_args()
    config = configured(options)
    samples = TrainSamples(read_split(config.data, "train"), config.data, SEED, MANY_EPOCHS)
    rates = {"plain": plain, "workers": workers}[options.mode](samples, config, options)
    decodes = samples.images.cache.decodes / ((options.steps + 1) * len(samples))
    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps({**rates, "decodes": decodes, "peak_gb": kilobytes * 1024 / 1e9}))
    return 0


def configured(options: argparse.Namespace) -> Config:
    """Return the recipe with the strengths that the peer has too."""
    strengths = options.strengths
    overrides = {
        "data.root": options.data_dir,
        "data.train": "annotations/instances_train2017.json",
        "data.augment.mosaic": "canvas",
        "data.augment.mosaic_prob": 1.0,
        "data.augment.mixup_prob": strengths["mixup"],
        "data.augment.flip_prob": strengths["flip"],
        "data.augment.pixel_transforms": {},
    }
    for name in ("translate", "scale", "hue", "saturation", "value"):
        overrides[f"data.augment.{name}"] = strengths[name]
    return recipe(options.img_size, *((name, str(value)) for name, value in overrides.items()))


def plain(samples: TrainSamples, config: Config, options: argparse.Namespace) -> dict[str, float]:
    """Return the rates of a loop over samples."""
    cv2.setNumThreads(1)
    assign = make_assigner(config)

    def one_pass(epoch: int) -> None:
        for index in range(len(samples)):
            sample = samples.sample_with_notes(epoch, index)[0]
            channels_first(sample.image)
            assign(*sample.targets())

    one_pass(0)
    started = time.perf_counter()
    cores_from = core_seconds()
    for epoch in range(1, options.steps + 1):
        one_pass(epoch)
    count = options.steps * len(samples)
    return rates(count, time.perf_counter() - started, core_seconds() - cores_from)


def workers(samples: TrainSamples, config: Config, options: argparse.Namespace) -> dict[str, float]:
    """Return the rates at which the stream delivers."""
    # Here, since it loads MindSpore, which the plain loop does without.
    from mindyolo_v4.data.loader.stream import TrainStream, worker_count

    assign = {config.data.img_size: make_assigner(config)}
    workers_per_device = config.data.num_workers
    stream = TrainStream(samples, assign, options.batch, workers_per_device, Ranks())
    batches = stream.batches(0, stream.steps_per_epoch * (options.steps + 1))
    for _ in range(stream.steps_per_epoch):
        next(batches)
    started = time.perf_counter()
    cores_from = core_seconds()
    for _ in range(stream.steps_per_epoch * options.steps):
        next(batches)
    seconds = time.perf_counter() - started
    cores = core_seconds() - cores_from  # while all processes are still there
    batches.close()
    count = stream.steps_per_epoch * options.steps * options.batch
    return rates(count, seconds * worker_count(config.data.num_workers, 1), cores)


def core_seconds() -> float:
    """Return the CPU time that this process and its children have taken."""
    this = psutil.Process()
    taken = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(times.user + times.system for times in taken)


def rates(count: int, seconds: float, cores: float) -> dict[str, float]:
    """Return images per second and per core second."""
    return {"images_per_second": count / seconds, "images_per_core_second": count / cores}


if __name__ == "__main__":
    sys.exit(main())

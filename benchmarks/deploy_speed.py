"""The fastest back-end beside plain runtimes, and what predict.py and Predictor add to the network.

python -m benchmarks.deploy_speed [--img_size 608 416] [--weight W] [--no_torch]

Network alone, one image, all cores of this process: our back-end `auto` against the fastest of
OpenVINO, ONNX Runtime and OpenCV on the file of export.py, and PyTorch (eager, channels_last, batch
normalisation folded). Every measurement is a process of its own. At the first size: the second call
of a Predictor against 1.05 x its network + 15 ms; and predict.py, seconds per image, from the
difference of a long and a short run, against the network. Random weights see something everywhere:
the score threshold is then the one at which the first picture has 20 objects.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common.made_checkpoint import write_checkpoint
from benchmarks.common.measure import REPOSITORY, compare, in_turns, run_json, run_module
from benchmarks.common.networks import Networks, make_parser
from benchmarks.common.report import pairs_figure
from benchmarks.peers.environments import peer_python
from benchmarks.peers.plain_runtime import RUNTIMES
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.tools.make_scenes import draw_scene

NETWORK_BOUND = 1.1
COMMAND_BOUND = 1.3
_CLASSES = 80
_SCENE_PX = 640
_OBJECTS = 20  # at most, per picture
_CONF_THRES = 0.25


def main() -> int:
    """Measure all figures; return 1 where a bound is missed."""
    parser = make_parser("benchmarks.deploy_speed", __doc__, img_size=(608, 416), pairs=3, steps=15)
    parser.add_argument("--weight", help="checkpoint of yolov4 (default: random weights)")
    parser.add_argument("--images", type=int, default=40, help="of the short run (%(default)s)")
    parser.add_argument("--no_torch", action="store_true", help="leave PyTorch out")
    options = parser.parse_args()
    first, *_ = options.img_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weight = Path(options.weight or folder / "random.ckpt")
        if options.weight is None:
            model = ModelConfig("yolov4", width=options.width, depth=options.depth)
            write_checkpoint(weight, model, _CLASSES, first)
        few = write_pictures(folder / "few", options.images)
        many = write_pictures(folder / "many", 3 * options.images)
        image = few / "0.jpg"

        kept = True
        for size in options.img_size:
            kept &= network_alone(folder, weight, size, image, options)
        conf_thres = _CONF_THRES
        if options.weight is None:
            conf_thres = ours(weight, first, image, options, 0.0)["lowest_score"]
        kept &= second_call(weight, image, options, conf_thres)
        kept &= whole_command(folder, weight, [few, many], options, conf_thres)
    return 0 if kept else 1


def write_pictures(folder: Path, count: int) -> Path:
    """Write drawn scenes as JPEG files and return their folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        picture, _, _ = draw_scene(rng, _SCENE_PX)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture[..., ::-1])
    return folder


def network_alone(
    folder: Path, weight: Path, size: int, image: Path, options: argparse.Namespace
) -> bool:
    """Measure the network at one size; return whether the bound is kept."""
    # OpenVINO and OpenCV recognise the Mish that is composed below opset 18.
    model = folder / f"{size}.onnx"
    words = ["--format", "onnx", "--opset", "13", "--img_size", str(size), "--output", model]
    subprocess.run(
        [sys.executable, "export.py", "--weight", weight, *words], cwd=REPOSITORY, check=True
    )
    plain = [sys.executable, "-m", "benchmarks.peers.plain_runtime"]
    settings = ["--model", model, "--img_size", size, "--steps", options.steps]
    measurements = {
        name: lambda name=name: run_json([*plain, name, *settings])["step_s"] for name in RUNTIMES
    }
    if not options.no_torch:
        python = peer_python("torch")
        networks = Networks.on_batch(folder, size, 1, options)
        flags = ("--layout", "channels_last")
        measurements["torch"] = lambda: networks.torch(python, "infer", *flags)["step_s"]
    measurements["ours"] = lambda: ours(weight, size, image, options)["step_s"]
    print(f"{size} px, seconds per call:", flush=True)
    values = in_turns(measurements, options.pairs)

    mine = values.pop("ours")
    for name, taken in values.items():
        print(f"  {name}: {statistics.median(taken):.4g} s")
    best = [min(taken) for taken in zip(*values.values(), strict=True)]
    return pairs_figure(f"deploy_network_{size}", compare(mine, best), NETWORK_BOUND)


def ours(
    weight: Path,
    size: int,
    image: Path,
    options: argparse.Namespace,
    conf_thres: float = _CONF_THRES,
) -> dict:
    """Measure our back-end in a process of its own."""
    settings = {"weight": weight, "img_size": size, "image": image, "steps": options.steps}
    limits = {"conf_thres": conf_thres, "max_det": _OBJECTS}
    return run_module("common.deploy_ours", **settings, **limits)


def second_call(weight: Path, image: Path, options: argparse.Namespace, conf_thres: float) -> bool:
    """Measure the second call of a Predictor; return whether the bound is kept."""
    size = options.img_size[0]
    measured = [ours(weight, size, image, options, conf_thres) for _ in range(options.pairs)]
    print(f"Predictor: {measured[0]['backend']}, {measured[0]['objects']} objects")
    second_s = [one["second_s"] for one in measured]
    allowed_s = [1.05 * one["step_s"] + 0.015 for one in measured]
    return pairs_figure(f"deploy_second_call_{size}", compare(second_s, allowed_s), 1.0)


def whole_command(
    folder: Path, weight: Path, sources: list[Path], options: argparse.Namespace, conf_thres: float
) -> bool:
    """Measure predict.py on the shorter and the longer folder; return whether the bound is kept."""
    size = options.img_size[0]
    per_image_s = []
    network_s = []
    limits = ["--conf_thres", repr(conf_thres), "--max_det", str(_OBJECTS)]
    for number in range(options.pairs):
        network_s.append(ours(weight, size, sources[0] / "0.jpg", options)["step_s"])
        spent_s = []
        for source in sources:
            target = folder / f"{source.name}-{number}"
            words = ["--source", source, "--save_dir", target, "--img_size", str(size)]
            command = [sys.executable, "predict.py", "--weight", weight, "--backend", "auto"]
            started_s = time.perf_counter()
            subprocess.run(
                [*command, *words, *limits], cwd=REPOSITORY, check=True, capture_output=True
            )
            spent_s.append(time.perf_counter() - started_s)
        # What starting takes is in both.
        per_image_s.append((spent_s[1] - spent_s[0]) / (2 * options.images))
    compared = compare(per_image_s, network_s)
    return pairs_figure(f"deploy_predict_{size}", compared, COMMAND_BOUND)


if __name__ == "__main__":
    sys.exit(main())

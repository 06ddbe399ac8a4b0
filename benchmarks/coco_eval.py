"""Seconds of the COCO metrics of 5000 images: the default evaluator against pycocotools.

There are 500,000 detections.

Both are timed within `CocoEvaluator.metrics`, making the COCO records included, each in a process
of its own in a scratch environment that has hotcoco. The second figure is the largest difference of
the twelve numbers and of each class's AP and AP50. --images makes it smaller, at 100 detections an
image.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common.measure import compare, in_turns, make_parser, option_words, run_json
from benchmarks.common.report import figure, pairs_figure
from benchmarks.peers.environments import peer_python
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.evaluation.coco_metrics import METRIC_NAMES, CocoEvaluator
from mindyolo_v4.evaluation.detections import Detections

BOUND = 0.05
DIFFERENCE_BOUND = 1e-6
IMAGES = 5000
CLASSES = 80
DETECTIONS_PER_IMAGE = 100


def main() -> int:
    """Measure; return 1 where a bound is missed."""
    parser = make_parser("benchmarks.coco_eval", __doc__, pairs=3)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument(
        "--evaluator",
        choices=("auto", "pycocotools"),
        help="measure in this process and print JSON",
    )
    options = parser.parse_args()
    if options.evaluator:
        print(json.dumps(timed(options.evaluator, options.images)))
        return 0
    python = peer_python("coco")
    numbers: dict[str, list[float]] = {}

    def run(evaluator: str) -> float:
        words = option_words({"evaluator": evaluator, "images": options.images})
        result = run_json([python, "-m", "benchmarks.coco_eval", *words])
        numbers[evaluator] = result["numbers"]
        return result["seconds"]

    values = in_turns(
        {"ours": lambda: run("auto"), "pycocotools": lambda: run("pycocotools")}, options.pairs
    )
    kept = pairs_figure("coco_eval", compare(values["ours"], values["pycocotools"]), BOUND)
    worst = float(np.max(np.abs(np.array(numbers["auto"]) - np.array(numbers["pycocotools"]))))
    return 0 if figure("coco_eval_difference", worst, DIFFERENCE_BOUND) and kept else 1


def timed(name: str, images: int) -> dict:
    """Return the seconds of the metrics, and all numbers; -1 for one without ground truth."""
    evaluator = made_evaluator(images)
    started = time.perf_counter()
    metrics = evaluator.metrics(evaluator.evaluate(name))
    seconds = time.perf_counter() - started
    numbers = [metrics[one] for one in METRIC_NAMES]
    numbers += [row[one] for row in metrics["per_class"] for one in ("AP", "AP50")]
    return {"seconds": seconds, "numbers": [-1.0 if one is None else one for one in numbers]}


def made_evaluator(images: int) -> CocoEvaluator:
    """Return an evaluator of made ground truth, about 7 boxes per image, and of detections."""
    rng = np.random.default_rng(0)
    records = Records(made_record(number, rng) for number in range(1, images + 1))
    names = tuple(f"class {number}" for number in range(CLASSES))
    evaluator = CocoEvaluator(Dataset(records, names, tuple(range(1, CLASSES + 1)), "made", ()))
    for index, record in enumerate(records):
        evaluator.add(index, made_detections(record, rng))
    return evaluator


def made_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return corners (N, 4) within 640 x 480."""
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * np.maximum(np.array([640, 480]) - sides, 1)
    return np.concatenate([corner, corner + sides], axis=1)


def made_record(number: int, rng: np.random.Generator) -> ImageRecord:
    """Return an image with its ground truth; one box of a hundred is a crowd."""
    count = int(rng.integers(0, 15))
    boxes = made_boxes(rng, count)
    crowd = rng.random(count) < 0.01
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * rng.uniform(0.4, 1, count)
    return ImageRecord(
        path=Path(f"{number}.jpg"),
        width=640,
        height=480,
        boxes_xyxy_px=boxes.astype(np.float32),
        class_ids=rng.integers(0, CLASSES, count),
        ignore=crowd,
        crowd=crowd,
        areas_px=areas,
        image_id=number,
        label_path="",
    )


def made_detections(record: ImageRecord, rng: np.random.Generator) -> Detections:
    """Return three detections near each ground-truth box, the rest anywhere."""
    near = np.repeat(np.arange(len(record.class_ids)), 3)
    far = DETECTIONS_PER_IMAGE - len(near)
    shifted = record.boxes_xyxy_px[near] + rng.normal(0, 6, (len(near), 4))
    shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
    boxes = np.concatenate([shifted, made_boxes(rng, far)]).astype(np.float32)
    scores = np.concatenate([rng.beta(4, 2, len(near)), rng.beta(1, 8, far)]).astype(np.float32)
    return Detections(
        boxes, scores, np.concatenate([record.class_ids[near], rng.integers(0, CLASSES, far)])
    )


if __name__ == "__main__":
    sys.exit(main())

"""A small split of a data set, made by hand or at random, and detections in it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.evaluation.coco_metrics import CocoEvaluator
from mindyolo_v4.evaluation.detections import Detections


def record(image_id, boxes=(), class_ids=(), ignore=None, areas=None) -> ImageRecord:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ignored = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore)
    sizes = boxes[:, 2:] - boxes[:, :2]
    return ImageRecord(
        path=Path(f"/pictures/{image_id}.jpg"),
        width=640,
        height=480,
        boxes_xyxy_px=boxes,
        class_ids=np.array(class_ids, np.int64),
        ignore=ignored,
        crowd=ignored,
        areas_px=sizes.prod(axis=1).astype(np.float64) if areas is None else np.array(areas),
        image_id=image_id,
        label_path="",
    )


def dataset(*records, names=("cat", "dog"), category_ids=None) -> Dataset:
    return Dataset(
        Records(records), names, category_ids or tuple(range(1, len(names) + 1)), "made by hand", ()
    )


def detections(*rows) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
    )


def perturbed(truth_record: ImageRecord, rng, classes: int) -> Detections:
    """Detections near the truths, some missed, some of a wrong class, some of nothing."""
    boxes, class_ids = truth_record.boxes_xyxy_px.astype(float), truth_record.class_ids
    seen = rng.random(len(boxes)) < 0.8
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = (boxes + rng.normal(0, 0.06, boxes.shape) * sizes)[seen]
    labels = np.where(
        rng.random(len(boxes)) < 0.1, rng.integers(0, classes, len(boxes)), class_ids
    )[seen]
    low = rng.uniform(0, 200, (5, 2))
    noise = np.concatenate([low, low + rng.uniform(5, 200, (5, 2))], axis=1)
    found = np.concatenate([moved, noise])
    scores = np.round(rng.random(len(found)), 2)
    order = np.argsort(-scores, kind="stable")
    every_class = np.concatenate([labels, rng.integers(0, classes, 5)])
    return Detections(
        found[order].astype(np.float32), scores[order].astype(np.float32), every_class[order]
    )


def random_split(rng: np.random.Generator, images: int = 30) -> tuple[Dataset, list[Detections]]:
    """Return images of six boxes of two classes, some of them ignored, and what was detected."""
    records = []
    for image_id in range(1, images + 1):
        low = rng.uniform(0, 300, (6, 2))
        boxes = np.concatenate([low, low + rng.uniform(5, 150, (6, 2))], axis=1)
        records.append(record(image_id, boxes, rng.integers(0, 2, 6), ignore=rng.random(6) < 0.2))
    return dataset(*records), [perturbed(one, rng, classes=2) for one in records]


def evaluator_of(split: Dataset, detected: Sequence[Detections]) -> CocoEvaluator:
    evaluator = CocoEvaluator(split)
    for index, detections_ in enumerate(detected):
        evaluator.add(index, detections_)
    return evaluator

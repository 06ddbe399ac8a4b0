"""COCO's twelve numbers for any data set, by pycocotools, from exactly the values that the result files hold.

Truths to be ignored, crowds and VOC `difficult` alike, are written with `iscrowd: 1`: the only flag that plain
pycocotools heeds (it overwrites `ignore`), so that anyone's run over the written files gives the same numbers. An
ignored truth then takes any number of detections, matched by intersection over detection area, as VOC and COCO intend.
"""

import contextlib
import io
from typing import Any

import numpy as np

from mindyolo_v4.boxes import xyxy_to_xywh
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.nms import Detections

METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_BOX_DECIMALS = 3  # pixels
_SCORE_DECIMALS = 6


class CocoEvaluator:
    """Collect detections image by image, then give metrics and the two COCO files of one data set."""

    def __init__(self, dataset: Dataset):
        """Take the truths of `dataset`; no detections yet.

        Raises:
            ValueError: two records share an image id.
        """
        ids = [record.image_id for record in dataset.records]
        if len(set(ids)) != len(ids):
            raise ValueError(f"{dataset.source}: image ids are not unique")
        self._dataset = dataset
        self._found: dict[int, list[dict[str, Any]]] = {}

    def add(self, record_index: int, detections: Detections) -> None:
        """Add one image's detections, boxes in original pixels.

        Args:
            record_index: place of the image in `dataset.records`.

        Raises:
            IndexError: there is no such record.
            ValueError: the image has been added before.
        """
        if not 0 <= record_index < len(self._dataset.records):
            raise IndexError(f"record {record_index} of {len(self._dataset.records)}")
        if record_index in self._found:
            raise ValueError(f"detections of record {record_index} were added before")
        boxes = np.round(xyxy_to_xywh(detections.boxes_xyxy_px.astype(np.float64)), _BOX_DECIMALS).tolist()
        scores = np.round(detections.scores.astype(np.float64), _SCORE_DECIMALS).tolist()
        image_id = self._dataset.records[record_index].image_id
        self._found[record_index] = [
            {"image_id": image_id, "category_id": self._dataset.category_ids[class_id], "bbox": box, "score": score}
            for box, score, class_id in zip(boxes, scores, detections.class_ids.tolist(), strict=True)
        ]

    def predictions(self) -> list[dict[str, Any]]:
        """Return all detections in COCO's result form, in the order of the records; bbox = left, top, width, height."""
        return [one for index in sorted(self._found) for one in self._found[index]]

    def ground_truth(self) -> dict[str, Any]:
        """Return the truths as a COCO annotation file's content; images without detections are in it too."""
        categories = [
            {"id": category_id, "name": name, "supercategory": ""}
            for category_id, name in zip(self._dataset.category_ids, self._dataset.class_names, strict=True)
        ]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record in self._dataset.records:
            size = {"width": record.width, "height": record.height}
            images.append({"id": record.image_id, "file_name": record.path.name, **size})
            boxes = np.round(xyxy_to_xywh(record.boxes_xyxy_px.astype(np.float64)), _BOX_DECIMALS).tolist()
            truths = zip(
                boxes, record.class_ids.tolist(), record.areas_px.tolist(), record.ignore.tolist(), strict=True
            )
            for box, class_id, area, ignore in truths:
                annotation = {
                    "id": len(annotations) + 1,  # never 0: pycocotools takes a match with id 0 for none
                    "image_id": record.image_id,
                    "category_id": self._dataset.category_ids[class_id],
                    "bbox": box,
                    "area": round(float(area), _BOX_DECIMALS),
                    "iscrowd": int(ignore),
                }
                annotations.append(annotation)
        info = {"description": f"truths of {self._dataset.source}; iscrowd 1 = ignored (crowd or VOC difficult)"}
        return {"info": info, "images": images, "categories": categories, "annotations": annotations}

    def metrics(self) -> dict[str, Any]:
        """Return the twelve numbers as fractions, `images`, and `per_class` (class_id, class_name, AP, AP50, truths).

        Images that were never added count as images without detections. A number for which there are no truths (APl
        where no object is large, a class that does not occur) is None. `truths` counts those that are not ignored.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = _run_pycocotools(self.ground_truth(), self.predictions())
        numbers = {name: _number(value) for name, value in zip(METRIC_NAMES, evaluation.stats, strict=True)}
        return {**numbers, "images": len(self._dataset.records), "per_class": self._per_class(evaluation)}

    def _per_class(self, evaluation: Any) -> list[dict[str, Any]]:
        # precision: thresholds x recalls x categories in ascending id x areas (all first) x detection limits (100 last)
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        column = {category_id: k for k, category_id in enumerate(sorted(self._dataset.category_ids))}
        counts = np.zeros(len(self._dataset.class_names), np.int64)
        for record in self._dataset.records:
            counts += np.bincount(record.class_ids[~record.ignore], minlength=len(counts))
        rows = []
        for class_id, name in enumerate(self._dataset.class_names):
            own = precision[:, :, column[self._dataset.category_ids[class_id]]]
            ap, ap50 = _number(own.mean()), _number(own[0].mean())
            rows.append({"class_id": class_id, "class_name": name, "AP": ap, "AP50": ap50})
            rows[-1]["truths"] = int(counts[class_id])
        return rows


def _run_pycocotools(ground_truth: dict[str, Any], predictions: list[dict[str, Any]]) -> Any:
    """Return the finished COCOeval of boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths = COCO()
    truths.dataset = ground_truth
    truths.createIndex()
    if predictions:
        results = truths.loadRes([dict(one) for one in predictions])  # it writes into what it is given
    else:  # loadRes fails on an empty list
        results = COCO()
        results.dataset = {**ground_truth, "annotations": []}
        results.createIndex()
    evaluation = COCOeval(truths, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def _number(value: float) -> float | None:
    """Return the value, or None for pycocotools' -1: there are no truths to score."""
    return float(value) if value > -1 else None

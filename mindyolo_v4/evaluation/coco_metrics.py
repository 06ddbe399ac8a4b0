"""COCO's twelve numbers for any data set, from exactly the values that the result files hold.

pycocotools is the reference. hotcoco, where it is installed (extra `fast`), gives equal numbers much faster and is
preferred; it refuses ids that are no non-negative integers, so data sets with such ids stay with
pycocotools.

Truths to be ignored, crowds and VOC `difficult` alike, are written with `iscrowd: 1`: the only flag that plain
pycocotools heeds (it overwrites `ignore`), so that anyone's run over the written files gives the same numbers. An
ignored truth then takes any number of detections, matched by intersection over detection area, as VOC and COCO intend.
"""

import contextlib
import io
import logging
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import xyxy_to_xywh
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.nms import Detections

logger = logging.getLogger(__name__)

METRIC_NAMES = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)
_BOX_DECIMALS = 3  # pixels
_SCORE_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class _Scores:
    """What an evaluator hands back; -1 where there are no truths to score."""

    stats: NDArray[np.float64]  # (12,) as METRIC_NAMES
    precision: NDArray[
        np.float64
    ]  # thresholds x recalls x categories in ascending id x areas x detection limits


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
        boxes = np.round(
            xyxy_to_xywh(detections.boxes_xyxy_px.astype(np.float64)), _BOX_DECIMALS
        ).tolist()
        scores = np.round(detections.scores.astype(np.float64), _SCORE_DECIMALS).tolist()
        image_id = self._dataset.records[record_index].image_id
        self._found[record_index] = [
            {
                "image_id": image_id,
                "category_id": self._dataset.category_ids[class_id],
                "bbox": box,
                "score": score,
            }
            for box, score, class_id in zip(
                boxes, scores, detections.class_ids.tolist(), strict=True
            )
        ]

    def predictions(self) -> list[dict[str, Any]]:
        """Return all detections in COCO's result form, in the order of the records; bbox = left, top, width, height."""
        return [one for index in sorted(self._found) for one in self._found[index]]

    def ground_truth(self) -> dict[str, Any]:
        """Return the truths as a COCO annotation file's content; images without detections are in it too."""
        categories = [
            {"id": category_id, "name": name, "supercategory": ""}
            for category_id, name in zip(
                self._dataset.category_ids, self._dataset.class_names, strict=True
            )
        ]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record in self._dataset.records:
            size = {"width": record.width, "height": record.height}
            images.append({"id": record.image_id, "file_name": record.path.name, **size})
            boxes = np.round(
                xyxy_to_xywh(record.boxes_xyxy_px.astype(np.float64)), _BOX_DECIMALS
            ).tolist()
            truths = zip(
                boxes,
                record.class_ids.tolist(),
                record.areas_px.tolist(),
                record.ignore.tolist(),
                strict=True,
            )
            for box, class_id, area, ignore in truths:
                annotation = {
                    "id": len(annotations)
                    + 1,  # never 0: pycocotools takes a match with id 0 for none
                    "image_id": record.image_id,
                    "category_id": self._dataset.category_ids[class_id],
                    "bbox": box,
                    "area": round(float(area), _BOX_DECIMALS),
                    "iscrowd": int(ignore),
                }
                annotations.append(annotation)
        info = {
            "description": f"truths of {self._dataset.source}; iscrowd 1 = ignored (crowd or VOC difficult)"
        }
        return {
            "info": info,
            "images": images,
            "categories": categories,
            "annotations": annotations,
        }

    def metrics(
        self, evaluator: Literal["auto", "hotcoco", "pycocotools"] = "auto"
    ) -> dict[str, Any]:
        """Return the twelve numbers as fractions, `images`, and `per_class` (class_id, class_name, AP, AP50, truths).

        Images that were never added count as images without detections. A number for which there are no truths (APl
        where no object is large, a class that does not occur) is None. `truths` counts those that are not ignored.

        Args:
            evaluator: auto is hotcoco where it is installed and takes the ids, else pycocotools.
        """
        chosen = self._choose_evaluator() if evaluator == "auto" else evaluator
        run = {"hotcoco": _run_hotcoco, "pycocotools": _run_pycocotools}[chosen]
        scores = run(self.ground_truth(), self.predictions())
        numbers = {
            name: _number(value) for name, value in zip(METRIC_NAMES, scores.stats, strict=True)
        }
        return {
            **numbers,
            "images": len(self._dataset.records),
            "per_class": self._per_class(scores),
        }

    def _choose_evaluator(self) -> str:
        version = hotcoco_version()
        if version is None:
            _say_once(
                "COCO metrics by pycocotools (the extra `fast` installs an evaluator that is much faster)"
            )
            return "pycocotools"
        ids = [*(record.image_id for record in self._dataset.records), *self._dataset.category_ids]
        if not all(isinstance(one, int) and one >= 0 for one in ids):
            _say_once(
                f"COCO metrics by pycocotools: hotcoco {version} takes non-negative integers as ids only"
            )
            return "pycocotools"
        _say_once(f"COCO metrics by hotcoco {version}")
        return "hotcoco"

    def _per_class(self, scores: _Scores) -> list[dict[str, Any]]:
        precision = scores.precision[:, :, :, 0, -1]  # all areas, 100 detections
        column = {
            category_id: k for k, category_id in enumerate(sorted(self._dataset.category_ids))
        }
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


@cache
def hotcoco_version() -> str | None:
    """Return the version of the installed hotcoco; None where there is none, or one that was not compared."""
    try:
        version = metadata.version("hotcoco")
    except metadata.PackageNotFoundError:
        return None
    major, minor = (int(part) for part in version.split(".")[:2])
    return version if major == 1 and minor >= 3 else None


@cache
def _say_once(line: str) -> None:
    logger.info("%s", line)


def _run_hotcoco(ground_truth: dict[str, Any], predictions: list[dict[str, Any]]) -> _Scores:
    """Score boxes with hotcoco."""
    from hotcoco import COCO, COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO(ground_truth)
        results = (
            truths.load_res(predictions)
            if predictions
            else COCO({**ground_truth, "annotations": []})
        )
        evaluation = COCOeval(truths, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return _Scores(np.asarray(evaluation.stats), np.asarray((evaluation.eval or {})["precision"]))


def _run_pycocotools(ground_truth: dict[str, Any], predictions: list[dict[str, Any]]) -> _Scores:
    """Score boxes with pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = ground_truth
        truths.createIndex()
        if predictions:
            results = truths.loadRes(
                [dict(one) for one in predictions]
            )  # it writes into what it is given
        else:  # loadRes fails on an empty list
            results = COCO()
            results.dataset = {**ground_truth, "annotations": []}
            results.createIndex()
        evaluation = COCOeval(truths, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return _Scores(evaluation.stats, evaluation.eval["precision"])


def _number(value: float) -> float | None:
    """Return the value, or None for pycocotools' -1: there are no truths to score."""
    return float(value) if value > -1 else None

"""COCO's twelve metrics for any data set, from exactly the values that the result files hold.

pycocotools is the reference. hotcoco (extra `fast`), where installed, gives equal numbers much
faster and is preferred.

Ignored ground truth, crowds and VOC `difficult` alike, is written with `iscrowd: 1`: the only flag
that plain pycocotools respects (it overwrites `ignore`), so that it gives the same numbers for the
written files. An ignored box then takes any number of detections, matched by intersection over
detection area, as VOC and COCO intend.
"""

import contextlib
import io
import logging
from functools import cache
from importlib import metadata
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray, xyxy_to_xywh
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.evaluation.detections import Detections

logger = logging.getLogger(__name__)

METRIC_NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
_BOX_DECIMALS = 3  # pixels
_SCORE_DECIMALS = 6


class CocoEvaluator:
    """Collect detections image by image, then give metrics and the two COCO files of a data set."""

    def __init__(self, dataset: Dataset):
        """Start without detections. Raises ValueError where two records share an image id."""
        self._image_ids = dataset.records.image_ids()
        if len(set(self._image_ids)) != len(self._image_ids):
            raise ValueError(f"{dataset.source}: image ids are not unique")
        self.dataset = dataset
        self._results: dict[int, list[dict[str, Any]]] = {}  # by record index

    def add(self, record_index: int, detections: Detections) -> None:
        """Set the detections of `dataset.records[record_index]`, boxes in original pixels."""
        boxes = _written_boxes(detections.boxes_xyxy_px)
        scores = np.round(detections.scores.astype(np.float64), _SCORE_DECIMALS).tolist()
        image_id = self._image_ids[record_index]
        category_ids = [self.dataset.category_ids[k] for k in detections.class_ids.tolist()]
        self._results[record_index] = [
            {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
            for category_id, box, score in zip(category_ids, boxes, scores, strict=True)
        ]

    def predictions(self) -> list[dict[str, Any]]:
        """Return COCO's result list in record order; bbox = left, top, width, height."""
        return [result for index in sorted(self._results) for result in self._results[index]]

    def ground_truth(self) -> dict[str, Any]:
        """Return the content of a COCO annotation file, with the images that have no detections."""
        dataset = self.dataset
        categories = [
            {"id": category_id, "name": name, "supercategory": ""}
            for category_id, name in zip(dataset.category_ids, dataset.class_names, strict=True)
        ]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record in dataset.records:
            size = {"width": record.width, "height": record.height}
            images.append({"id": record.image_id, "file_name": record.path.name, **size})
            boxes = _written_boxes(record.boxes_xyxy_px)
            for k, class_id in enumerate(record.class_ids.tolist()):
                annotation = {
                    "id": len(annotations) + 1,  # never 0: for pycocotools, 0 means no match
                    "image_id": record.image_id,
                    "category_id": dataset.category_ids[class_id],
                    "bbox": boxes[k],
                    "area": round(float(record.areas_px[k]), _BOX_DECIMALS),
                    "iscrowd": int(record.ignore[k]),
                }
                annotations.append(annotation)
        meaning = "iscrowd 1 = ignored (crowd or VOC difficult)"
        return {
            "info": {"description": f"ground truth of {dataset.source}; {meaning}"},
            "images": images,
            "categories": categories,
            "annotations": annotations,
        }

    def evaluate(self, evaluator: Literal["auto", "hotcoco", "pycocotools"] = "auto") -> Any:
        """Return the `COCOeval` of the evaluator, accumulated and summarised.

        Args:
            evaluator: auto is hotcoco where it is installed, else pycocotools.
        """
        if evaluator == "auto":
            version = hotcoco_version()
            evaluator = "pycocotools" if version is None else "hotcoco"
            advice = " (the extra `fast` installs a faster evaluator)"
            _log_once(f"COCO metrics by {evaluator}{advice if version is None else f' {version}'}")
        truth, results = self.with_plain_ids()
        with contextlib.redirect_stdout(io.StringIO()):
            if evaluator == "hotcoco":
                evaluation = hotcoco_evaluation(truth, results)
            else:
                evaluation = _pycocotools_evaluation(truth, results)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def metrics(self, evaluation: Any) -> dict[str, Any]:
        """Return the twelve numbers as fractions, `images` and `per_class`.

        `per_class` holds class_id, class_name, AP, AP50 and truths: the count of its ground-truth
        boxes that are not ignored. A number without ground truth (APl where no object is large, a
        class that does not occur) is undefined: None. Images that were never added count as images
        without detections.

        Args:
            evaluation: the result of `evaluate`.
        """
        named = zip(METRIC_NAMES, np.asarray(evaluation.stats), strict=True)
        return {
            **{name: _number(value) for name, value in named},
            "images": len(self.dataset.records),
            "per_class": self._per_class(np.asarray(evaluation.eval["precision"])),
        }

    def precision_at_50(self, evaluation: Any) -> NDArray[np.float64]:
        """Return the precision (C, 101) of each class at IoU 0.5 and recalls 0.00 to 1.00.

        It is NaN where a class has no ground truth.

        Args:
            evaluation: the result of `evaluate`.
        """
        table = np.asarray(evaluation.eval["precision"])
        curves = np.stack([table[0, :, k, 0, -1] for k in self.category_order()])
        return np.where(curves > -1, curves, np.nan)

    def category_order(self) -> list[int]:
        """Return where each class stands among the category ids in ascending order."""
        ascending = sorted(self.dataset.category_ids)
        return [ascending.index(category_id) for category_id in self.dataset.category_ids]

    def with_plain_ids(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return ground truth and predictions with ids that every evaluator takes.

        pycocotools sorts ids, which text beside numbers does not allow; hotcoco takes integers from
        0 to 2^64 - 1 only.
        """
        truth = self.ground_truth()
        results = self.predictions()
        image_ids = [image["id"] for image in truth["images"]]
        category_ids = sorted(self.dataset.category_ids)
        ids = image_ids + category_ids
        if all(isinstance(number, int) and 0 <= number < 2**64 for number in ids):
            return truth, results
        images = {number: k for k, number in enumerate(image_ids)}
        categories = {number: k for k, number in enumerate(category_ids)}

        def plain(entry: dict[str, Any]) -> dict[str, Any]:
            ids = {
                "image_id": images[entry["image_id"]],
                "category_id": categories[entry["category_id"]],
            }
            return entry | ids

        truth["images"] = [image | {"id": images[image["id"]]} for image in truth["images"]]
        truth["categories"] = [one | {"id": categories[one["id"]]} for one in truth["categories"]]
        truth["annotations"] = [plain(entry) for entry in truth["annotations"]]
        return truth, [plain(entry) for entry in results]

    def _per_class(self, precision: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Return the rows of the classes.

        Args:
            precision: (IoU thresholds, recalls, categories in ascending id, areas, limits).
        """
        dataset = self.dataset
        _, class_ids = dataset.records.objects()
        counts = np.bincount(class_ids, minlength=len(dataset.class_names))
        rows = []
        for class_id, category in enumerate(self.category_order()):
            name = dataset.class_names[class_id]
            own = precision[:, :, category, 0, -1]  # all areas, 100 detections
            row = {"class_id": class_id, "class_name": name, "AP": _number(own.mean())}
            rows.append(row | {"AP50": _number(own[0].mean()), "truths": int(counts[class_id])})
        return rows


@cache
def hotcoco_version() -> str | None:
    """Return the version of hotcoco; None if not installed, or if that version was not compared."""
    try:
        version = metadata.version("hotcoco")
    except metadata.PackageNotFoundError:
        return None
    major, minor = (int(part) for part in version.split(".")[:2])
    return version if major == 1 and minor >= 3 else None


@cache
def _log_once(line: str) -> None:
    logger.info("%s", line)


def hotcoco_evaluation(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> Any:
    """Return hotcoco's `COCOeval` of contents as `CocoEvaluator.with_plain_ids` returns them."""
    import hotcoco

    # it takes UTF-8 only, which the names of files need not be
    images = [image | {"file_name": ""} for image in truth["images"]]
    truth = truth | {"info": {}, "images": images}
    targets = hotcoco.COCO(truth)
    # Loading an empty list of results fails.
    results = targets.load_res(predictions) if predictions else hotcoco.COCO(_without_boxes(truth))
    return hotcoco.COCOeval(targets, results, "bbox")


def _pycocotools_evaluation(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> Any:
    from pycocotools.cocoeval import COCOeval

    targets = _pycocotools_data(truth)
    copies = [dict(result) for result in predictions]  # it adds keys
    results = targets.loadRes(copies) if copies else _pycocotools_data(_without_boxes(truth))
    return COCOeval(targets, results, "bbox")


def _without_boxes(truth: dict[str, Any]) -> dict[str, Any]:
    return {**truth, "annotations": []}


def _pycocotools_data(content: dict[str, Any]) -> Any:
    from pycocotools.coco import COCO

    data = COCO()
    data.dataset = content
    data.createIndex()
    return data


def _written_boxes(boxes_xyxy_px: FloatArray) -> list[list[float]]:
    boxes = xyxy_to_xywh(boxes_xyxy_px.astype(np.float64))
    written: list[list[float]] = np.round(boxes, _BOX_DECIMALS).tolist()
    return written


def _number(value: float) -> float | None:
    """Return the value; None for -1, which both evaluators give without ground truth."""
    return float(value) if value > -1 else None

"""Images -> `predictions.json`, and drawn images or class names, with nothing but a checkpoint."""

from mindyolo_v4 import environment  # noqa: F401  first: it sets the process up before MindSpore or OpenCV loads

# isort: split
import glob
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import mindspore as ms
import numpy as np
from tqdm import tqdm

from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.checkpoint.settings import config_for_checkpoint, read_card
from mindyolo_v4.classify import load_classifier, probabilities
from mindyolo_v4.config.recipe import Tree, build_config, merge_trees, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import ImageReadError, fit_image, read_image, resize_image
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.detect import load_detector
from mindyolo_v4.errors import UserError
from mindyolo_v4.evaluation.draw import draw_detections
from mindyolo_v4.evaluation.nms import Detections, detect_objects
from mindyolo_v4.evaluation.top_k import best_classes
from mindyolo_v4.models.forward import InferenceForward, normaliser
from mindyolo_v4.runtime.device import (
    choose_device,
    make_run_folder,
    setup_logger,
    start,
    to_mixed_precision,
)

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]
TOP = 5  # classes that a classifier names


class Detector:
    """A checkpoint ready to look at images, one at a time (one compiled graph whatever their sizes)."""

    def __init__(self, weight: str | Path, config: Config, amp_level: str):
        network, self.card = load_detector(weight)
        self.config, self.anchors = config, self.card.model.anchor_set
        self.forward = InferenceForward(
            normaliser(config.data), to_mixed_precision(network, amp_level)
        )

    def detect(self, image: np.ndarray) -> Detections:
        """Return what is found in an RGB image (H, W, 3) uint8, boxes in its own pixels."""
        height, width = image.shape[:2]
        data = self.config.data
        geometry = resize_geometry(data.resize, width, height, data.img_size)
        fitted = resize_image(image, geometry, data.pad_value)
        batch = ms.Tensor(np.ascontiguousarray(fitted.transpose(2, 0, 1))[None])
        raw_maps = [level.asnumpy()[0] for level in self.forward(batch)]
        return detect_objects(raw_maps, self.anchors, self.config.evaluate).to_original(geometry)

    def look(self, image: np.ndarray) -> tuple[Prediction, np.ndarray]:
        """Return what `predictions.json` says of an image, and the image with the boxes drawn."""
        found, names = self.detect(image), self.card.class_names
        drawn = draw_detections(image, found.boxes_xyxy_px, found.class_ids, found.scores, names)
        entry = {
            "detections": [
                {
                    "class_id": int(class_id),
                    "class_name": names[class_id],
                    "score": float(score),
                    "box_xyxy_px": [round(float(edge), 3) for edge in box],
                }
                for box, score, class_id in zip(
                    found.boxes_xyxy_px, found.scores, found.class_ids, strict=True
                )
            ]
        }
        return entry, drawn


class Classifier:
    """A checkpoint ready to name what images show, one at a time."""

    def __init__(self, weight: str | Path, config: Config, amp_level: str):
        network, self.card = load_classifier(weight)
        self.config = config
        self.forward = InferenceForward(
            normaliser(config.data), to_mixed_precision(network, amp_level)
        )

    def look(self, image: np.ndarray) -> tuple[Prediction, None]:
        """Return what `predictions.json` says of an image: the five best classes, best first. Nothing is drawn."""
        scores = probabilities(self.forward, fit_image(image, self.config.data))
        names = self.card.class_names
        best = best_classes(scores, TOP)
        top5 = [
            {"class_id": int(i), "class_name": names[i], "score": float(scores[i])} for i in best
        ]
        return {"top5": top5}, None


def _open(weight: str | Path, card: Card, config: Config, amp_level: str) -> Detector | Classifier:
    return {"detect": Detector, "classify": Classifier}[card.task](weight, config, amp_level)


def _entry(file: str, image: np.ndarray, content: Prediction) -> Prediction:
    return {"file": file, "width": int(image.shape[1]), "height": int(image.shape[0]), **content}


def predict_images(
    weight: str | Path,
    images: Sequence[str | Path | np.ndarray],
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
) -> list[Prediction]:
    """Detect objects in image files or RGB arrays (H, W, 3) uint8, or classify them, as the checkpoint can.

    Returns:
        One `{file, width, height, detections: [{class_id, class_name, score, box_xyxy_px}]}` an image, in order, or of
        a classifier `{file, width, height, top5: [{class_id, class_name, score}]}`; `file` of an array is "".

    Raises:
        UserError: the checkpoint is not usable.
        ImageReadError: a file is no readable image.
    """
    overrides = read_tree(
        None, [("evaluate.conf_thres", repr(conf_thres)), ("evaluate.iou_thres", repr(iou_thres))]
    )
    card = read_card(weight, whole=True)
    config = config_for_checkpoint(weight, card, {}, overrides)
    reader = _open(weight, card, config, start(config).amp_level)
    predictions = []
    for item in images:
        is_array = isinstance(item, np.ndarray)
        image = item if is_array else read_image(Path(item))
        predictions.append(_entry("" if is_array else str(item), image, reader.look(image)[0]))
    return predictions


def predict(weight: str, source: str, recipe: Tree, overrides: Tree, exist_ok: bool = False) -> int:
    """List what is seen in every image of `source` in `predictions.json`; draw detections. Return the exit status."""
    choose_device(build_config(merge_trees(recipe, overrides, "command line")).device_target)
    files = list_images(source)
    card = read_card(weight, whole=True)
    config = config_for_checkpoint(weight, card, recipe, overrides)
    runtime = start(config)
    folder = make_run_folder(config.save_dir, "predict", exist_ok, permission="--exist_ok")
    setup_logger(folder, runtime.rank, "predict.log")
    reader = _open(weight, card, config, runtime.amp_level)
    predictions, skipped = [], []
    for file, name in zip(
        tqdm(files, unit="image", disable=None), output_names(files), strict=True
    ):
        try:
            image = read_image(Path(file))
        except ImageReadError as error:
            skipped.append(str(error))
            continue
        content, drawn = reader.look(image)
        predictions.append(_entry(file, image, content))
        if drawn is not None:
            _write_jpeg(folder / name, drawn)
    (folder / "predictions.json").write_text(
        json.dumps(predictions, indent=1) + "\n", encoding="utf-8"
    )
    for line in skipped:
        logger.warning("skipped %s", line)
    if card.task == "classify":
        for entry in predictions:
            best = ", ".join(
                f"{found['class_name']} {found['score']:.3f}" for found in entry["top5"]
            )
            logger.info("%s: %s", entry["file"], best)
        logger.info("%d images, %d skipped: %s", len(predictions), len(skipped), folder)
        return 0
    found_total = sum(len(entry["detections"]) for entry in predictions)
    logger.info(
        "%d images, %d detections, %d skipped: %s",
        len(predictions),
        found_total,
        len(skipped),
        folder,
    )
    return 0


def list_images(source: str) -> list[str]:
    """Return the image files that a file, folder or glob pattern names, sorted.

    Raises:
        UserError: there is none.
    """
    path = Path(source)
    if path.is_file():
        return [source]
    if path.is_dir():
        found = [
            str(file) for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES
        ]
    else:
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207  pathlib has no absolute patterns
        found = [file for file in matches if Path(file).is_file()]
    if not found:
        raise UserError(
            source, "no image there", expected="an image file, a folder of images or a glob pattern"
        )
    return found


def output_names(files: Sequence[str]) -> Iterator[str]:
    """Yield `<stem>.jpg` for each file; a stem that came before gets _2, _3, ..."""
    taken: set[str] = set()
    for file in files:
        stem, count = Path(file).stem, 1
        name = stem
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        yield f"{name}.jpg"


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    good, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not good:
        raise OSError(f"{path}: JPEG encoding failed")
    path.write_bytes(encoded.tobytes())

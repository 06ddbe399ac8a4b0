"""Images -> `predictions.json`, and drawn images or class names, with nothing but a checkpoint."""

import glob
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import mindspore as ms
import numpy as np
from tqdm import tqdm

from mindyolo_v4 import environment
from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.classify import probabilities
from mindyolo_v4.config.recipe import Tree, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import ImageReadError, fit_image, read_image, resize_image
from mindyolo_v4.data.readers.files import IMAGE_SUFFIXES
from mindyolo_v4.errors import UserError
from mindyolo_v4.evaluation.draw import draw_detections
from mindyolo_v4.evaluation.nms import Detections, detect_objects
from mindyolo_v4.evaluation.top_k import best_classes
from mindyolo_v4.models.forward import InferenceForward, normaliser
from mindyolo_v4.runtime.device import start, to_mixed_precision
from mindyolo_v4.runtime.files import whole_file, write_json
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.run_folder import make_run_folder

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]
TOP = 5  # classes that a classifier names


class Predictor:
    """A checkpoint ready for images, one at a time: one compiled graph whatever their sizes."""

    def __init__(self, checkpoint: Checkpoint, config: Config, amp_level: str):
        network = to_mixed_precision(load_network(checkpoint, None), amp_level)
        self.card = checkpoint.card
        self.config = config
        self.forward = InferenceForward(normaliser(config.data), network)

    def predict(self, image: np.ndarray) -> tuple[Prediction, np.ndarray | None]:
        """Return what `predictions.json` says of an RGB image (H, W, 3) uint8, and it drawn."""
        if self.card.task == "classify":
            return {"top5": self._classify(image)}, None
        detections = self._detect(image)
        boxes = detections.boxes_xyxy_px
        scores = detections.scores
        ids = detections.class_ids
        entries = [
            self._named(class_id, score) | {"box_xyxy_px": [round(float(edge), 3) for edge in box]}
            for box, score, class_id in zip(boxes, scores, ids, strict=True)
        ]
        drawn = draw_detections(image, boxes, ids, scores, self.card.class_names)
        return {"detections": entries}, drawn

    def _named(self, class_id: int, score: float) -> Prediction:
        name = self.card.class_names[class_id]
        return {"class_id": int(class_id), "class_name": name, "score": float(score)}

    def _classify(self, image: np.ndarray) -> list[Prediction]:
        """Return the five best classes, best first."""
        scores = probabilities(self.forward, fit_image(image, self.config.data))
        return [self._named(class_id, scores[class_id]) for class_id in best_classes(scores, TOP)]

    def _detect(self, image: np.ndarray) -> Detections:
        """Return the detections, boxes in the image's own pixels."""
        height, width = image.shape[:2]
        data = self.config.data
        geometry = resize_geometry(data.resize, width, height, data.img_size, data.img_height)
        fitted = resize_image(image, geometry, data.pad_value)
        batch = ms.Tensor(np.ascontiguousarray(fitted.transpose(2, 0, 1))[None])
        raw_maps = [level.asnumpy()[0] for level in self.forward(batch)]
        anchors = self.config.model.anchor_set
        return detect_objects(raw_maps, anchors, self.config.evaluate).to_original(geometry)


def predict_images(
    weight: str | Path,
    images: Sequence[str | Path | np.ndarray],
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
) -> list[Prediction]:
    """Detect objects in image files or RGB arrays (H, W, 3) uint8, or classify them.

    Returns:
        One `{file, width, height, detections: [{class_id, class_name, score, box_xyxy_px}]}` per
        image, in order, or of a classifier `{file, width, height, top5: [{class_id, class_name,
        score}]}`; `file` of an array is "".

    Raises:
        UserError: the checkpoint is not usable.
        ImageReadError: a file is no readable image.
    """
    environment.prepare()
    thresholds = {"evaluate.conf_thres": repr(conf_thres), "evaluate.iou_thres": repr(iou_thres)}
    checkpoint = Checkpoint.open(weight)
    config = config_for_checkpoint(checkpoint, {}, read_tree(None, list(thresholds.items())))
    predictor = Predictor(checkpoint, config, start(config).amp_level)
    predictions = []
    for item in images:
        is_array = isinstance(item, np.ndarray)
        image = item if is_array else read_image(Path(item))
        content, _ = predictor.predict(image)
        predictions.append(_entry("" if is_array else str(item), image, content))
    return predictions


def predict(
    weight: str, source: str, recipe: Tree, overrides: Tree, asked: Config, exist_ok: bool = False
) -> int:
    """List what is in every image of `source` in `predictions.json`; draw detections.

    Args:
        asked: what the user wrote, before the checkpoint decides on the rest.

    Returns:
        The exit status.
    """
    runtime = start(asked)
    files = list_images(source)
    checkpoint = Checkpoint.open(weight)
    config = config_for_checkpoint(checkpoint, recipe, overrides)
    predictor = Predictor(checkpoint, config, runtime.amp_level)
    folder = make_run_folder(config.save_dir, "predict", runtime, "--exist_ok", exist_ok)
    setup_logger(folder, "predict.log", runtime.ranks)

    predictions: list[Prediction] = []
    skipped: list[str] = []
    for file, name in zip(
        tqdm(files, unit="image", disable=None), output_names(files), strict=True
    ):
        try:
            image = read_image(Path(file))
        except ImageReadError as error:
            skipped.append(str(error))
            continue
        content, drawn = predictor.predict(image)
        predictions.append(_entry(file, image, content))
        if drawn is not None:
            _write_jpeg(folder / name, drawn)
    write_json(folder / "predictions.json", predictions, indent=1)

    for line in skipped:
        logger.warning("skipped %s", line)
    counts = [f"{len(predictions)} images"]
    if checkpoint.card.task == "classify":
        for entry in predictions:
            best = ", ".join(f"{top['class_name']} {top['score']:.3f}" for top in entry["top5"])
            logger.info("%s: %s", entry["file"], best)
    else:
        counts.append(f"{sum(len(entry['detections']) for entry in predictions)} detections")
    logger.info("%s, %d skipped: %s", ", ".join(counts), len(skipped), folder)
    return 0


def _entry(file: str, image: np.ndarray, content: Prediction) -> Prediction:
    return {"file": file, "width": int(image.shape[1]), "height": int(image.shape[0]), **content}


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
        # pathlib has no absolute patterns.
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207
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
    with whole_file(path) as unfinished:
        unfinished.write_bytes(encoded.tobytes())

"""Images -> drawn images and `predictions.json`, with nothing but a checkpoint."""

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

from mindyolo_v4.anchors import anchor_set
from mindyolo_v4.boxes import resize_geometry
from mindyolo_v4.cards import config_for_checkpoint, read_card
from mindyolo_v4.config import Tree, build_config, merge_trees, read_tree
from mindyolo_v4.data.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.image_ops import ImageReadError, read_image, resize_image
from mindyolo_v4.detect import InferenceForward, load_detector
from mindyolo_v4.evaluation.draw import draw_detections
from mindyolo_v4.evaluation.nms import Detections, detect_objects
from mindyolo_v4.models.normalise import Normalise
from mindyolo_v4.runtime import choose_device, make_run_folder, setup_logger, start, to_mixed_precision
from mindyolo_v4.schema.errors import UserError
from mindyolo_v4.schema.root import Config

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]


class Detector:
    """A checkpoint ready to look at images, one at a time (one compiled graph whatever their sizes)."""

    def __init__(self, weight: str | Path, config: Config, amp_level: str):
        network, self.card = load_detector(weight)
        data = config.data
        self.config, self.anchors = config, anchor_set(self.card.model)
        self.forward = InferenceForward(Normalise(data.mean, data.std), to_mixed_precision(network, amp_level))

    def detect(self, image: np.ndarray) -> Detections:
        """Return what is found in an RGB image (H, W, 3) uint8, boxes in its own pixels."""
        height, width = image.shape[:2]
        data = self.config.data
        geometry = resize_geometry(data.resize, width, height, data.img_size)
        fitted = resize_image(image, geometry, data.pad_value)
        batch = ms.Tensor(np.ascontiguousarray(fitted.transpose(2, 0, 1))[None])
        raw_maps = [level.asnumpy()[0] for level in self.forward(batch)]
        return detect_objects(raw_maps, self.anchors, self.config.evaluate).to_original(geometry)

    def describe(self, file: str, image: np.ndarray, found: Detections) -> Prediction:
        """Return the entry of `predictions.json` for one image."""
        names = self.card.class_names
        return {
            "file": file,
            "width": int(image.shape[1]),
            "height": int(image.shape[0]),
            "detections": [
                {
                    "class_id": int(class_id),
                    "class_name": names[class_id],
                    "score": float(score),
                    "box_xyxy_px": [round(float(edge), 3) for edge in box],
                }
                for box, score, class_id in zip(found.boxes_xyxy_px, found.scores, found.class_ids, strict=True)
            ],
        }


def predict_images(
    weight: str | Path,
    images: Sequence[str | Path | np.ndarray],
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
) -> list[Prediction]:
    """Detect objects in image files or RGB arrays (H, W, 3) uint8.

    Returns:
        One `{file, width, height, detections: [{class_id, class_name, score, box_xyxy_px}]}` an image, in order;
        `file` of an array is "".

    Raises:
        UserError: the checkpoint is not usable.
        ImageReadError: a file is no readable image.
    """
    overrides = read_tree(None, [("evaluate.conf_thres", repr(conf_thres)), ("evaluate.iou_thres", repr(iou_thres))])
    config = config_for_checkpoint(weight, read_card(weight), {}, overrides)
    detector = Detector(weight, config, start(config).amp_level)
    predictions = []
    for item in images:
        is_array = isinstance(item, np.ndarray)
        image = item if is_array else read_image(Path(item))
        predictions.append(detector.describe("" if is_array else str(item), image, detector.detect(image)))
    return predictions


def predict(weight: str, source: str, recipe: Tree, overrides: Tree, exist_ok: bool = False) -> int:
    """Draw the detections of every image of `source` and list them in `predictions.json`. Return the exit status."""
    choose_device(build_config(merge_trees(recipe, overrides, "command line")).device_target)
    files = list_images(source)
    config = config_for_checkpoint(weight, read_card(weight), recipe, overrides)
    runtime = start(config)
    folder = make_run_folder(config.save_dir, "predict", exist_ok, permission="--exist_ok")
    setup_logger(folder, runtime.rank, "predict.log")
    detector = Detector(weight, config, runtime.amp_level)
    predictions, skipped = [], []
    for file, name in zip(tqdm(files, unit="image", disable=None), output_names(files), strict=True):
        try:
            image = read_image(Path(file))
        except ImageReadError as error:
            skipped.append(str(error))
            continue
        found = detector.detect(image)
        predictions.append(detector.describe(file, image, found))
        drawn = draw_detections(image, found.boxes_xyxy_px, found.class_ids, found.scores, detector.card.class_names)
        _write_jpeg(folder / name, drawn)
    (folder / "predictions.json").write_text(json.dumps(predictions, indent=1) + "\n", encoding="utf-8")
    for line in skipped:
        logger.warning("skipped %s", line)
    found_total = sum(len(entry["detections"]) for entry in predictions)
    logger.info("%d images, %d detections, %d skipped: %s", len(predictions), found_total, len(skipped), folder)
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
        found = [str(file) for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
    else:
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207  pathlib has no absolute patterns
        found = [file for file in matches if Path(file).is_file()]
    if not found:
        raise UserError(source, "no image there", expected="an image file, a folder of images or a glob pattern")
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

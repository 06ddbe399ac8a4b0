"""Images -> `predictions.json`, and drawn images or class names, with nothing but a checkpoint."""

import glob
import logging
import threading
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import mindspore as ms
import numpy as np
from tqdm import tqdm

from mindyolo_v4 import environment
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.network import load_network
from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.classify import probabilities
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.recipe import Tree, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import (
    ImageReadError,
    channels_first,
    fit_image,
    read_image,
    sixteen_to_eight_bits,
)
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.data.views import ImageViews, View
from mindyolo_v4.detect import detect_in_view
from mindyolo_v4.errors import StoppedError, UserError
from mindyolo_v4.evaluation.draw import draw_detections
from mindyolo_v4.evaluation.merge import ViewDetections, merge_views
from mindyolo_v4.evaluation.top_k import best_classes
from mindyolo_v4.models.forward import inference
from mindyolo_v4.runtime.device import Runtime, start
from mindyolo_v4.runtime.files import remove_unfinished, whole_file, write_json
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.precision import to_mixed_precision
from mindyolo_v4.runtime.run_folder import make_run_folder
from mindyolo_v4.runtime.signals import StopSignals

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]
TOP = 5  # classes that a classifier names
TILES_PER_BATCH = 4  # inputs of one size that the network sees at once
_SOURCES = "an image file, a folder of images or a glob pattern"


class Predictor:
    """A checkpoint ready for images, one at a time: one compiled graph whatever their sizes.

    Test-time augmentation needs a graph per input size, tiles one more of each.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config, runtime: Runtime):
        network = load_network(checkpoint, None)
        network = to_mixed_precision(network, runtime.amp_level, runtime.amp_dtype)
        self.card = checkpoint.card
        self.config = config
        self.forward = inference(config, network)

    def predict(self, file: str, image: np.ndarray) -> Prediction:
        """Return what `predictions.json` says of an RGB image (H, W, 3) uint8."""
        is_classifier = self.card.task == "classify"
        content = {"top5": self._classify(image)} if is_classifier else self._detect(image)
        height, width = image.shape[:2]
        return {"file": file, "width": width, "height": height, **content}

    def _named(self, class_id: int, score: float) -> Prediction:
        name = self.card.class_names[class_id]
        return {"class_id": int(class_id), "class_name": name, "score": float(score)}

    def _classify(self, image: np.ndarray) -> list[Prediction]:
        """Return the five best classes, best first."""
        scores = probabilities(self.forward, fit_image(image, self.config.data))
        return [self._named(class_id, scores[class_id]) for class_id in best_classes(scores, TOP)]

    def _detect(self, image: np.ndarray) -> Prediction:
        """Return the detections, boxes in the image's own pixels."""
        height, width = image.shape[:2]
        settings = self.config.evaluate
        views = ImageViews(np.array([[width, height]]), self.config.data, settings)
        variants = len(views.variants)
        parts: list[ViewDetections] = []
        for variant in range(variants):
            own = [views.view(number) for number in range(variant, len(views), variants)]
            size = TILES_PER_BATCH if len(own) > 1 else 1
            for first in range(0, len(own), size):
                parts += self._detect_in_views(image, own[first : first + size], size)
        found = merge_views(parts, settings, variants)
        entries = [
            self._named(class_id, score) | {"box_xyxy_px": [round(float(edge), 3) for edge in box]}
            for box, score, class_id in zip(
                found.boxes_xyxy_px, found.scores, found.class_ids, strict=True
            )
        ]
        return {"detections": entries}

    def _detect_in_views(
        self, image: np.ndarray, views: list[View], size: int
    ) -> list[ViewDetections]:
        """Return what is in at most `size` views of one input size, seen as one batch."""
        pad = self.config.data.pad_value
        inputs = [view.fit(image, pad) for view in views]
        inputs += [np.full_like(inputs[0], pad)] * (size - len(views))
        batch = ms.Tensor(np.stack([channels_first(fitted) for fitted in inputs]))
        raw_maps = [level.asnumpy() for level in self.forward(batch)]
        return [
            detect_in_view([level[slot] for level in raw_maps], self.config, view)
            for slot, view in enumerate(views)
        ]


@cache
def _one_at_a_time() -> threading.Lock:
    """Return the lock of MindSpore's state, which belongs to the process."""
    return threading.Lock()


def predict_images(
    weight: str | Path,
    images: Sequence[str | Path | np.ndarray],
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
) -> list[Prediction]:
    """Detect objects in image files or RGB arrays, or classify them.

    Args:
        images: files, or arrays as `rgb_pixels` takes them; one alone is taken as a list of one. Of
            several threads that call this, one works at a time.

    Returns:
        One `{file, width, height, detections: [{class_id, class_name, score, box_xyxy_px}]}` per
        image, in order, or of a classifier `{file, width, height, top5: [{class_id, class_name,
        score}]}`; `file` of an array is "".

    Raises:
        UserError: the checkpoint or an array is not usable.
        ImageReadError: a file is no readable image.
    """
    environment.prepare()
    if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    thresholds = {"evaluate.conf_thres": repr(conf_thres), "evaluate.iou_thres": repr(iou_thres)}
    with _one_at_a_time():
        checkpoint = Checkpoint.open(weight)
        config = config_for_checkpoint(checkpoint, {}, read_tree(None, list(thresholds.items())))
        predictor = Predictor(checkpoint, config, start(config))
        return [
            predictor.predict(str(item), read_image(item, config.data.max_megapixels))
            if isinstance(item, str | Path)
            else predictor.predict("", rgb_pixels(item, f"images[{number}]"))
            for number, item in enumerate(images)
        ]


def rgb_pixels(array: object, name: str) -> np.ndarray:
    """Return an image (H, W, 3) uint8 of an array whose meaning is certain.

    It may be grey, RGB or RGBA (the last is left out), channels last or first, of whole numbers 0
    to 255, of 16 bits (uint16, of which the largest number tells the bits in use), or of numbers
    0 to 1.

    Raises:
        UserError: it is something else; `name` is its name in the message.
    """
    expected = "an RGB image (H, W, 3) of whole numbers 0 to 255, or of numbers 0 to 1"
    if not isinstance(array, np.ndarray):
        raise UserError(name, "is no array", type(array).__name__, f"a path, or {expected}")
    pixels = array
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise UserError(name, "is no image", f"shape {pixels.shape}", expected)
    if pixels.dtype.kind not in "buif":
        raise UserError(name, "is no image", f"type {pixels.dtype}", expected)

    pixels = pixels[:, :, [0, 0, 0] if pixels.shape[2] == 1 else [0, 1, 2]]
    low = float(pixels.min())
    high = float(pixels.max())
    is_whole = pixels.dtype.kind != "f" or bool((pixels == np.rint(pixels)).all())
    if pixels.dtype == np.uint16:
        pixels = sixteen_to_eight_bits(pixels)
    elif pixels.dtype.kind in "bf" and 0 <= low <= high <= 1:
        pixels = np.rint(pixels * 255.0)
    elif not (is_whole and 0 <= low <= high <= 255):
        raise UserError(name, "is no image", f"values {low:g} to {high:g}", expected)
    return np.ascontiguousarray(pixels, np.uint8)


def predict(
    weight: str,
    source: str,
    recipe: Tree,
    overrides: Tree,
    asked: Config,
    exist_ok: bool = False,
    signals: StopSignals | None = None,
) -> int:
    """List what is in every image of `source` in `predictions.json`; draw detections.

    Args:
        asked: what the user wrote, before the checkpoint decides on the rest.

    Returns:
        The exit status.
    """
    files = list_images(source, asked.data.max_megapixels)
    runtime = start(asked)
    checkpoint = Checkpoint.open(weight)
    config = config_for_checkpoint(checkpoint, recipe, overrides)
    predictor = Predictor(checkpoint, config, runtime)
    folder = make_run_folder(config.save_dir, "predict", runtime, "--exist_ok", exist_ok)
    setup_logger(folder, "predict.log", runtime.ranks)

    results = [folder / name for name in output_names(files)]
    if {path.resolve() for path in results} & {Path(file).resolve() for file in files}:
        raise UserError("--save_dir", "drawn images would replace those of --source", str(folder))

    stop = signals or StopSignals()
    predictions: list[Prediction] = []
    skipped: list[str] = []
    bar = tqdm(files, unit="image", disable=None)
    try:
        with stop.deferred(runtime.ranks, partial(remove_unfinished, folder)):
            for file, result in zip(bar, results, strict=True):
                stop.check()
                try:
                    image = read_image(file, config.data.max_megapixels)
                    predictions.append(predictor.predict(file, image))
                except ImageReadError as error:
                    skipped.append(str(error))
                    continue
                except cv2.error as error:
                    skipped.append(f"{file}: {error.err}")
                    continue
                _draw(result, image, predictions[-1], checkpoint.card.class_names)
    except StoppedError as error:
        logger.warning("stopped by %s after %d of %d images", error, len(predictions), len(files))
        raise
    finally:
        write_json(folder / "predictions.json", predictions, indent=1)
    return _report(source, folder, predictions, skipped)


def _report(source: str, folder: Path, predictions: list[Prediction], skipped: list[str]) -> int:
    """Log what was found and skipped. Raises UserError where nothing could be read."""
    for line in skipped:
        logger.warning("skipped %s", line)
    counts = [f"{len(predictions)} images"]
    for entry in predictions:
        if "top5" in entry:
            best = ", ".join(f"{top['class_name']} {top['score']:.3f}" for top in entry["top5"])
            logger.info("%s: %s", entry["file"], best)
    if predictions and "detections" in predictions[0]:
        counts.append(f"{sum(len(entry['detections']) for entry in predictions)} detections")
    logger.info("%s, %d skipped: %s", ", ".join(counts), len(skipped), folder)
    if not predictions:
        problem = f"none of {len(skipped)} images could be read; the first: {skipped[0]}"
        raise UserError(source, problem)
    return 0


def list_images(source: str, max_megapixels: float = DataConfig.max_megapixels) -> list[str]:
    """Return the image files that a file, folder or glob pattern names, sorted.

    Raises:
        UserError: there is none, or the one file cannot be read as an image.
    """
    path = Path(source)
    if path.is_file():
        try:
            read_image(source, max_megapixels)
        except ImageReadError as error:
            problem = str(error).removeprefix(f"{source}: ")
            raise UserError(source, problem, expected=_SOURCES) from error
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
        raise UserError(source, "no image there", expected=_SOURCES)
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


def _draw(path: Path, image: np.ndarray, entry: Prediction, class_names: Sequence[str]) -> None:
    """Write the image with its detections as JPEG; an image that is too large for that is named."""
    detections = entry.get("detections")
    if detections is None:
        return
    boxes = np.array([found["box_xyxy_px"] for found in detections]).reshape(-1, 4)
    ids = np.array([found["class_id"] for found in detections], np.int64)
    scores = np.array([found["score"] for found in detections])
    try:
        drawn = draw_detections(image, boxes, ids, scores, class_names)
        good, encoded = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    except cv2.error:
        good = False
    if not good:
        size = f"{image.shape[1]} x {image.shape[0]} pixels"
        logger.warning("%s: was not drawn, since JPEG cannot hold %s", entry["file"], size)
        return
    with whole_file(path) as unfinished:
        unfinished.write_bytes(encoded.tobytes())

"""What the entry point predict.py does, and prediction for other programs."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import Image
from mindyolo_v4.data.pixels import rgb_pixels
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.deploy.opening import choose_backend, open_backend, start_runtime
from mindyolo_v4.deploy.options import PredictOptions
from mindyolo_v4.deploy.outputs import LOG, Outputs, VideoOutput, label_names, output_names
from mindyolo_v4.deploy.overlap import WriteBehind, read_ahead
from mindyolo_v4.deploy.prediction import Prediction
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.deploy.sources import ImageFiles, Video, VideoSource, find_source
from mindyolo_v4.errors import StoppedError, UserError, printable, require
from mindyolo_v4.runtime.files import remove_unfinished, write_json, write_text
from mindyolo_v4.runtime.log import setup_logger
from mindyolo_v4.runtime.run_folder import make_run_folder
from mindyolo_v4.runtime.signals import StopSignals

if TYPE_CHECKING:
    from mindyolo_v4.checkpoint.file import Checkpoint

logger = logging.getLogger(__name__)

_LONGEST_LINE = 900  # characters of the log that hold names of others


def predict_images(
    weight: str | Path,
    images: Sequence[str | Path | np.ndarray],
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
    tta: bool = False,
    tile: int | None = None,
    overlap: float | None = None,
) -> list[dict[str, Any]]:
    """Detect objects in image files or RGB arrays, or classify them, with MindSpore.

    A program that does so more than once keeps a `Predictor`.

    Args:
        images: files, or arrays as `rgb_pixels` takes them; one alone is taken as a list of one. Of
            several threads that call this, one works at a time.
        tta, tile, overlap: as of `Predictor`.

    Returns:
        One `{file, width, height, detections: [{class_id, class_name, score, box_xyxy_px}]}` per
        image, in order, or of a classifier `{file, width, height, top5: [{class_id, class_name,
        score}]}`; `file` of an array is "".

    Raises:
        UserError: the checkpoint or an array is not usable.
        ImageReadError: a file is not a readable image.
    """
    if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    predictor = Predictor(
        weight, "mindspore", conf_thres, iou_thres, tta=tta, tile=tile, overlap=overlap
    )
    known = (
        item if isinstance(item, str | Path) else rgb_pixels(item, f"images[{number}]")
        for number, item in enumerate(images)
    )
    return [prediction.to_dict() for prediction in predictor(known)]


def predict(
    weights: "Checkpoint | ExportedFile",
    config: Config,
    options: PredictOptions,
    signals: StopSignals | None = None,
) -> int:
    """List what is in a source, draw it, and write what else the options say.

    Returns:
        The exit status.
    """
    limit = config.data.max_megapixels
    source = find_source(options.source, options.stride, options.recursive, limit)
    is_video = isinstance(source, VideoSource)
    problem = "is for videos, cameras and streams"
    require(is_video or options.stride == 1, "--stride", problem, options.stride)
    video = Video(source) if isinstance(source, VideoSource) else None
    chosen = choose_backend(options.backend, weights, config)
    runtime = start_runtime(chosen, config)
    backend = open_backend(chosen, weights, config, runtime)
    options.check_task(backend.card.task)
    class_ids = options.class_ids(backend.card.class_names)
    predictor = Predictor.of(backend, config, class_ids)

    labels = None  # two of one name are refused before there is a folder
    if options.save_txt and isinstance(source, ImageFiles):
        labels = label_names(source)
    folder = make_run_folder(config.save_dir, "predict", runtime, "--exist_ok", options.exist_ok)
    outputs = Outputs(folder, not options.no_draw, options.save_txt, options.save_crop)
    outputs.check(source)
    setup_logger(folder, LOG, runtime.ranks)
    if options.backend is not None or chosen != "mindspore":
        logger.info("back-end %s: %s", chosen, predictor.backend.path)
    if options.save_txt:
        write_text(folder / "classes.txt", "\n".join(predictor.card.class_names) + "\n")
    run = _Run(predictor, outputs, signals or StopSignals())
    with run.stop.deferred(runtime.ranks, partial(remove_unfinished, folder)):
        if video is not None:
            return run.video(video)
        assert isinstance(source, ImageFiles)
        return run.images(source, options.source, labels)


@dataclass(frozen=True)
class _Run:
    """One command: reading, the network and writing overlap."""

    predictor: Predictor
    outputs: Outputs
    stop: StopSignals

    def images(self, source: ImageFiles, name: str, labels: list[str] | None) -> int:
        """Predict image files and write predictions.json; return the exit status."""
        folder = self.outputs.folder
        names = list(output_names(source.files))
        entries: list[dict[str, Any]] = []
        skipped: list[str] = []
        images = source.images(self.predictor.config.data.max_megapixels)
        bar = tqdm(total=len(names), unit="image", disable=None)
        try:
            with bar, WriteBehind() as writer, closing(read_ahead(images, self.stop.check)) as read:
                for (file, image), stem, label in zip(read, names, labels or names, strict=True):
                    bar.update()
                    if isinstance(image, str):
                        skipped.append(image)
                        continue
                    try:
                        prediction = self._predict(file, image)
                    except cv2.error as error:
                        skipped.append(f"{file}: {error.err}")
                        continue
                    entries.append(prediction.to_dict())
                    writer.put(self.outputs.write, prediction, stem, label)
        except StoppedError as error:
            count = len(source.files)
            logger.warning("stopped by %s after %d of %d images", error, len(entries), count)
            raise
        finally:
            write_json(folder / "predictions.json", entries, indent=1)
        return _report(name, folder, entries, skipped)

    def video(self, video: Video) -> int:
        """Predict the frames of a video and write it with its JSON lines; return the status."""
        folder = self.outputs.folder
        name = video.source.name
        of_frame = replace(self.outputs, draw=False)  # what is written besides the video
        found = 0
        frames = 0
        stopped: StoppedError | None = None
        started_s = time.monotonic()
        bar = tqdm(total=video.frames_to_use, unit="frame", disable=None)
        with bar, VideoOutput(folder, name, video.fps, self.outputs.draw) as output:
            try:
                with (
                    WriteBehind() as writer,
                    closing(read_ahead(video.frames(), self.stop.check)) as read,
                ):
                    for frame in read:
                        prediction = self._predict(video.source.address, frame.image)
                        writer.put(output.write, frame, prediction)
                        writer.put(of_frame.write, prediction, f"{name}_{frame.number:06d}")
                        found += len(prediction)
                        frames += 1
                        bar.update()
            except StoppedError as error:
                stopped = error
        rate = frames / max(time.monotonic() - started_s, 1e-9)
        counts = f"{frames} frames"
        if self.predictor.card.task == "detect":
            counts += f", {found} detections"
        logger.info("%s, %.1f frames/s: %s", counts, rate, folder)
        if stopped is not None:
            logger.warning("stopped by %s after %d frames", stopped, frames)
            raise stopped
        if video.stalled_s:
            text = "%s gave no frame for %.0f s, and was left"
            logger.warning(text, video.source.address, video.stalled_s)
        missing = video.stated_frames - video.read_frames
        if missing > 0:
            text = "%s ends after %d of the %d frames that it states"
            logger.warning(text, video.source.address, video.read_frames, video.stated_frames)
        if not frames:
            raise UserError(video.source.address, "no frame could be read")
        return 0

    def _predict(self, file: str, image: Image) -> Prediction:
        (prediction,) = self.predictor.stream([(file, image)])
        return prediction


def _report(source: str, folder: Path, entries: list[dict[str, Any]], skipped: list[str]) -> int:
    """Log what was found and skipped. Raises UserError where nothing could be read."""
    for line in skipped:
        logger.warning("skipped %s", printable(line, _LONGEST_LINE))
    counts = [f"{len(entries)} images"]
    for entry in entries:
        if "top5" in entry:
            best = ", ".join(f"{top['class_name']} {top['score']:.3f}" for top in entry["top5"])
            logger.info("%s: %s", printable(entry["file"]), printable(best, _LONGEST_LINE))
    if entries and "detections" in entries[0]:
        counts.append(f"{sum(len(entry['detections']) for entry in entries)} detections")
    logger.info("%s, %d skipped: %s", ", ".join(counts), len(skipped), printable(str(folder)))
    if not entries:
        problem = f"none of {len(skipped)} images could be read; the first: {skipped[0]}"
        raise UserError(source, problem)
    return 0
